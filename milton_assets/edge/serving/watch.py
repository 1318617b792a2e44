"""Watching a release for as long as it serves: canary questions while nobody asks, and the signs that a device shows.

What belongs here: when to look, what is held against what, and what follows. What does not: reading signs (`signs`),
the statistics (`statistics.sequential`), and how a target goes back (`edge.deployment.rollback`, handed in as
`go_back`).

The rules:

 1. A user goes first: no question is asked until nobody has asked for a while, and one under way is given up when a
    user comes.
 2. What the health contract promises is held against the promise: the answers (where it promises them, and the server
    runs as it was measured), and the output speed. What it does not promise is held against what this release did here
    in its first checks: how long it takes to read a question (its time to first token: nothing comes from a cache) and
    to write.
 3. One bad check is no alarm, and the next comes soon. An alarm is raised by the evidence of several, within the budget
    of false alarms (docs/adr/0159).
 4. An alarm about a promise goes back to the release before, once, and says why; everything else is for a person. What
    cannot go back stays in service, and that is for a person, too.
 5. Memory that ran out, a server that died and a disk that is full are facts, not samples: each is told at once.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from milton_assets.edge.deployment.contention import processor_times, share_left
from milton_assets.edge.manifest import Probe
from milton_assets.edge.serving.asking import Asked, Unanswered, ask
from milton_assets.edge.serving.gateway import Gateway
from milton_assets.edge.serving.health_journal import EventKind, HealthEvent, shortened
from milton_assets.edge.serving.model_server import ModelServer
from milton_assets.edge.serving.signs import Signs
from milton_assets.edge.serving.supervisor import Supervisor
from milton_assets.statistics.sequential import Grade, Watched, threshold
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.processor_times import ProcessorTimes

YEAR_S = 365.25 * 86400.0
SPEED = (Grade(0.75, 0.05), Grade(0.5, 0.01), Grade(0.2, 0.001))
"""How slow a check of a well device may be, against what is usual, and how often: beside other work, when hot."""
TRUTH = (Grade(0.5, 0.001),)
"""Greedy answers of one build on one machine are the same; a check in a thousand may differ."""
STREAMS = ("answers", "answering", "promised_speed", "decode", "prefill")
_BROKEN_PROMISES = frozenset({"answers", "answering", "promised_speed"})
_BASELINE_CHECKS = 8
_SLACK_S = 0.05
"""So much later is nothing that a user feels, and nothing that a scheduler may not cost a well device."""
_DEATHS, _DEATHS_WITHIN_S = 3, 600.0


@dataclass(frozen=True)
class Schedule:
    """When is looked, in seconds, and the false alarms that a year may bring.

    `every_s` between canary questions, `soon_s` after a bad one, `idle_s` since the last user before one is asked,
    `answer_s` how long an answer may take, `signs_s` between looks at the signs, `standing_s` at what
    stands. `disk_free_bytes` is the least that is
    to be free.
    """

    every_s: float = 30.0
    soon_s: float = 3.0
    idle_s: float = 5.0
    answer_s: float = 30.0
    signs_s: float = 5.0
    standing_s: float = 60.0
    alarms_per_year: float = 1.0
    disk_free_bytes: int = 64 << 20

    def threshold(self) -> float:
        """What the evidence of one stream has to reach."""
        return threshold(
            checks_per_year=YEAR_S / self.every_s, alarms_per_year=self.alarms_per_year, streams=len(STREAMS)
        )


@dataclass
class _Record:
    """What is known of the release in service since its server came up here."""

    server: ModelServer
    streams: dict[str, Watched]
    usual: dict[str, list[float]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    alarmed: set[str] = field(default_factory=set)
    asked: int = 0


class Watch:
    """Watches what `supervisor` serves. `go_back` takes the target to the release before, and says which, or raises.

    `reads` gives the signs, `times` those of the processors, `standing` what is wrong while nothing happens (signatures
    that count no more, no controller heard), a sentence each, told once. `on_event` hears what happened; `alarms` are
    the latest sentences, for whoever asks.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        gateway: Gateway,
        *,
        reads: Callable[[], Signs],
        on_event: Callable[[HealthEvent], None],
        go_back: Callable[[str], Awaitable[str]] | None = None,
        schedule: Schedule | None = None,
        times: Callable[[], ProcessorTimes] = processor_times,
        standing: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self.alarms: deque[str] = deque(maxlen=5)
        self.signs = Signs()
        self._supervisor = supervisor
        self._gateway = gateway
        self._reads = reads
        self._on_event = on_event
        self._go_back = go_back
        self._schedule = schedule or Schedule()
        self._times = times
        self._standing = standing
        self._stood: frozenset[str] = frozenset()
        self._standing_due_s = 0.0
        self._record: _Record | None = None
        self._due_s = 0.0
        self._signs_due_s = 0.0
        self._restarts = 0
        self._deaths: deque[float] = deque(maxlen=_DEATHS)
        self._full = False
        self._latest: str | None = None
        self._went_back_from: set[str] = set()

    async def run(self) -> None:
        """Watch until cancelled."""
        tick_s = min(0.5, self._schedule.soon_s / 4, self._schedule.signs_s / 2)
        while True:
            now_s = time.monotonic()
            if now_s >= self._signs_due_s:
                self._signs_due_s = now_s + self._schedule.signs_s
                await self._look()
            if now_s >= self._standing_due_s:
                self._standing_due_s = now_s + self._schedule.standing_s
                await self._look_at_what_stands()
            if now_s >= self._due_s and self._is_idle() and (server := self._supervisor.serving) is not None:
                await self._check(server)
            await asyncio.sleep(tick_s)

    def _is_idle(self) -> bool:
        return not self._supervisor.is_lent and self._gateway.is_idle(self._schedule.idle_s)

    # ------------------------------------------------------------------------------------------ canary questions

    async def _check(self, server: ModelServer) -> None:
        record = self._record_of(server)
        probes = server.release.contract.probes
        probe = probes[record.asked % len(probes)]
        before = self._times()
        asking = asyncio.get_running_loop().create_task(ask(server, probe, timeout_s=self._schedule.answer_s))
        try:
            while not asking.done():
                await asyncio.wait({asking}, timeout=0.02)
                is_left = server is not self._supervisor.serving or self._supervisor.is_lent
                if not asking.done() and (self._gateway.in_progress or is_left):
                    asking.cancel()
                    return
            left = share_left(before, self._times())
            values = self._held_against(record, probe, asking.result(), left)
            figures = _figures(asking.result())
        except Unanswered as error:
            if not await server.listens():
                # A dead server says nothing of its release; the supervisor starts it again.
                await self._supervisor.suspect(server)
                return
            values, figures = {"answering": 0.0}, {"unanswered": str(error)}
        finally:
            asking.cancel()
        record.asked += 1
        suspicious = any(value < record.streams[name].grades[0].below for name, value in values.items())
        # What is usual is learnt at once: until then only promises can be held against anything.
        learns = any(len(usual) < _BASELINE_CHECKS for usual in record.usual.values())
        pause_s = self._schedule.soon_s if suspicious or learns else self._schedule.every_s
        self._due_s = time.monotonic() + pause_s
        await self._judge(record, values, figures)

    def _record_of(self, server: ModelServer) -> _Record:
        if self._record is None or self._record.server is not server:
            height = self._schedule.threshold()
            truths = {"answers", "answering"}
            streams = {name: Watched.of(TRUTH if name in truths else SPEED, height) for name in STREAMS}
            self._record = _Record(server, streams)
        return self._record

    def _held_against(self, record: _Record, probe: Probe, asked: Asked, left: float) -> dict[str, float]:
        """By stream, the check's value: 1 is as it should be, 0 the worst.

        `left` is the share of the processors that others left meanwhile: no more than that is asked of the speed.
        """
        contract = record.server.release.contract
        values = {"answering": 1.0 if asked.text.strip() else 0.0}
        promised = probe.answer_sha256 if self._supervisor.runs_as_measured else None
        # What is not promised is at least to stay as it was: the same build on the same machine, from the same slots.
        expected = promised or record.digests.setdefault(probe.prompt, asked.sha256)
        values["answers"] = 1.0 if asked.sha256 == expected else 0.0
        speed = None if asked.output_tokens is None else asked.output_tokens / asked.took_s
        if contract.min_output_tokens_per_s is not None and speed is not None:
            # Below the promise is bad however little; the grades say how bad.
            floor = contract.min_output_tokens_per_s * left
            values["promised_speed"] = min(1.0, speed / floor * SPEED[0].below)
        first_s = asked.time_to_first_token_s
        for name, took_s in {"prefill": first_s, "decode": None if first_s is None else asked.took_s - first_s}.items():
            if took_s is None:
                continue
            # Each question has its own usual times: a long prompt takes longer to read than a short one.
            usual = record.usual.setdefault(f"{name} {probe.prompt}", [])
            if len(usual) < _BASELINE_CHECKS:
                usual.append(took_s * left)
            else:
                values[name] = (statistics.median(usual) + _SLACK_S) / (took_s * left + _SLACK_S)
        return values

    async def _judge(
        self, record: _Record, values: Mapping[str, float], figures: Mapping[str, float | str | None]
    ) -> None:
        for name, value in values.items():
            record.streams[name] = record.streams[name].after(value)
        release = record.server.release
        told = {**figures, **{f"{name}_against_usual": round(value, 3) for name, value in values.items()}}
        if record.asked % 20 == 1:
            self._tell(EventKind.CHECKED, "a canary question was asked", release.digest, told)
        for name, value in values.items():
            if value >= record.streams[name].grades[0].below:
                record.alarmed.discard(name)
            if record.streams[name].alarms and name not in record.alarmed:
                # Told once, and again only after it was well in between.
                record.alarmed.add(name)
                await self._alarm(name, release.digest, f"{_SAYS[name]} ({release.model_version})", told)

    async def _alarm(
        self,
        name: str,
        release: str,
        said: str,
        figures: Mapping[str, float | str | None],
        *,
        promise: bool | None = None,
    ) -> None:
        goes_back = name in _BROKEN_PROMISES if promise is None else promise
        self.alarms.append(said)
        self._tell(EventKind.ALARM, said, release, figures, needs_person=not goes_back)
        if not goes_back or release in self._went_back_from:
            return
        self._went_back_from.add(release)
        if self._go_back is None:
            self._tell(EventKind.STAYED, f"{said}; it is not to go back by itself", release, {}, needs_person=True)
            return
        try:
            to = await self._go_back(said)
        except (MiltonError, OSError) as error:
            why = f"{said}; it could not go back: {error}"
            self._tell(EventKind.STAYED, why, release, {}, needs_person=True)
        else:
            self._tell(EventKind.WENT_BACK, f"{said}; went back to {to}", release, {})
            self._supervisor.wake()

    # ------------------------------------------------------------------------------------------ signs

    async def _look(self) -> None:
        before, self.signs = self.signs, await asyncio.to_thread(self._reads)
        now, server = self.signs, self._supervisor.serving
        if server is not None:
            self._latest = server.release.digest
        # Between a death and the next start nothing serves, and it was still that release.
        release = self._latest
        ran_out = _grew(before.oom_kills, now.oom_kills)
        if ran_out:
            said = "memory ran out, and the kernel killed a process"
            self._fact(said, release, now)
        if (died := self._supervisor.restarts - self._restarts) > 0:
            self._restarts = self._supervisor.restarts
            self._deaths.append(time.monotonic())
            self._fact(f"the model server died{' when memory ran out' if ran_out else ''}", release, now)
            is_often = len(self._deaths) == _DEATHS and self._deaths[-1] - self._deaths[0] <= _DEATHS_WITHIN_S
            if (is_often or died >= _DEATHS) and release is not None:
                self._deaths.clear()
                said = f"the model server died {_DEATHS} times within {_DEATHS_WITHIN_S / 60:.0f} minutes"
                await self._alarm("deaths", release, said, now.figures(), promise=True)
        if _grew(before.throttled, now.throttled):
            hot = "" if now.temperature_c is None else f" at {now.temperature_c:.0f} °C"
            self._fact(f"the processor is throttled{hot}", release, now, needs_person=False)
        if now.gpu_slowed_because and not before.gpu_slowed_because:
            hot = "" if now.gpu_temperature_c is None else f" at {now.gpu_temperature_c:.0f} °C"
            self._fact(f"{now.gpu_slowed_because}{hot}", release, now, needs_person=False)
        free = now.disk_free_bytes
        is_full = free is not None and free < self._schedule.disk_free_bytes
        if is_full and not self._full and free is not None:
            least = self._schedule.disk_free_bytes
            self._fact(
                f"the disk is full: {free >> 20} MiB are free, at least {least >> 20} MiB should be", release, now
            )
        self._full = is_full

    async def _look_at_what_stands(self) -> None:
        found = await asyncio.to_thread(self._standing)
        # The figures in a sentence move on while its beginning stays.
        begins = frozenset(said.partition(",")[0] for said in found)
        for said in found:
            if said.partition(",")[0] not in self._stood:
                self._fact(said, self._latest, self.signs)
        self._stood = begins

    def _fact(self, said: str, release: str | None, signs: Signs, *, needs_person: bool = True) -> None:
        self.alarms.append(said)
        self._tell(EventKind.ALARM, said, release, signs.figures(), needs_person=needs_person)

    def _tell(
        self,
        kind: EventKind,
        said: str,
        release: str | None,
        figures: Mapping[str, float | str | None],
        *,
        needs_person: bool = False,
    ) -> None:
        self._on_event(
            HealthEvent(
                at=datetime.now(UTC),
                kind=kind,
                said=shortened(said),
                release=release,
                figures=dict(figures),
                needs_person=needs_person,
            )
        )


_SAYS = {
    "answers": "its answers are not what they should be",
    "answering": "it does not answer",
    "promised_speed": "it is slower than its contract promises",
    "decode": "it writes slower than it used to here",
    "prefill": "it reads slower than it used to here, so its first token comes later",
}


def _grew(before: int | None, now: int | None) -> bool:
    return before is not None and now is not None and now > before


def _figures(asked: Asked) -> dict[str, float | str | None]:
    return {
        "time_to_first_token_s": asked.time_to_first_token_s,
        "decode_tokens_per_s": asked.decode_tokens_per_s,
        "prefill_tokens_per_s": asked.prefill_tokens_per_s,
        "answer_sha256": asked.sha256,
    }
