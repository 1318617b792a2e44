"""A challenger in the shadow: recorded requests are asked of it and of the incumbent while nobody asks, one at a time.

    shadow = Shadow(supervisor, open_goldens, is_idle)
    shadow.saw(path, body, told)             # recorded, if a shadow records
    await shadow.run()

What belongs here: recording, and when who is asked what. What does not: what is kept of a request and how
(`edge.canary.recording`), what becomes of a pair (`trial`), and what the pairs say (`edge.canary`).

For devices whose memory holds one model. Users never get an answer of the challenger. A batch of recorded requests is
asked of one of the two and then of the other; which is first is drawn for each batch, since a device is warmer after
the first. For the challenger the incumbent is stopped and started again: users who come meanwhile are held, the batch
is given up at once, and they wait for as long as their model loads.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from milton_assets.edge.canary.counts import Tally
from milton_assets.edge.canary.goldens import Marks, OpenGoldens, question_in
from milton_assets.edge.canary.plan import Arm, Recording, Way
from milton_assets.edge.canary.recording import MAX_REQUEST_BYTES, Recorder, patterns, redacted
from milton_assets.edge.canary.records import Paired, Replied
from milton_assets.edge.canary.verdict import Outcome
from milton_assets.edge.serving.asking import Unanswered, ask_again
from milton_assets.edge.serving.health_journal import HealthEvent
from milton_assets.edge.serving.metrics import Outcome as Ended
from milton_assets.edge.serving.metrics import Told
from milton_assets.edge.serving.model_server import ModelServer
from milton_assets.edge.serving.released import current_digest, read_released
from milton_assets.edge.serving.supervisor import Supervisor
from milton_assets.edge.serving.trial import Trial, Trials
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.strict_json import parse_json

RECORDED_PATH = "/v1/chat/completions"
IDLE_S = 60.0
"""Nobody has asked for so long before a batch begins."""
BATCH = 20
"""So many requests are asked of one, then of the other: a model loads once for all of them."""
_LEFT_OUT = frozenset({"stream", "stream_options", "user", "metadata", "model"})
"""What a request says that is not asked again: how it is sent, and who asks."""


class _UsersCame(Exception):
    """Somebody asks: the batch is given up."""


@dataclass(kw_only=True)
class _Going(Trial):
    recording: Recording
    recorder: Recorder
    left_out: re.Pattern[str]
    marks: Marks | None


class Shadow:
    """Looks for a shadow's plan in the folder that `supervisor` serves, and carries it out while `is_idle()`;
    `open_goldens` reads the golden questions of one that has such."""

    def __init__(
        self,
        supervisor: Supervisor,
        open_goldens: OpenGoldens,
        is_idle: Callable[[], bool],
        *,
        on_event: Callable[[HealthEvent], None] = lambda _: None,
        poll_s: float = 0.2,
        answer_s: float = 120.0,
        batch: int = BATCH,
    ) -> None:
        self._supervisor = supervisor
        self._open_goldens = open_goldens
        self._is_idle = is_idle
        self._trials = Trials("shadow", on_event)
        self._poll_s = poll_s
        self._answer_s = answer_s
        self._batch = batch
        self._going: _Going | None = None

    def saw(self, path: str, raw: bytes, told: Told) -> None:
        """A user's request was answered; it is recorded, if it is one that can be asked again and there is room."""
        going = self._going
        if going is None or going.is_over or path != RECORDED_PATH or told.outcome is not Ended.ANSWERED:
            return
        if len(raw) > MAX_REQUEST_BYTES or told.status != 200 or self._is_full(going):
            return
        try:
            kept = _kept(parse_json(raw, "the request"), going.left_out)
        except (BadInput, RecursionError):
            return  # the model server read it otherwise than we would; what cannot be redacted is not kept
        if len(json.dumps(kept)) > going.recording.size_bytes - going.recorder.size_bytes:
            return
        try:
            going.recorder.add(kept)
        except OSError as error:
            self._trials.finish(going, f"requests cannot be recorded: {error.strerror or error}", Outcome.NOT_YET)

    @staticmethod
    def _is_full(going: _Going) -> bool:
        return going.recorder.requests >= going.recording.requests

    async def run(self) -> None:
        """Look for a shadow, and carry it out, until cancelled."""
        while True:
            try:
                await self._look()
            except (MiltonError, OSError) as error:
                self._trials.tell_once(f"the shadow cannot be carried out: {error}")
            await asyncio.sleep(self._poll_s)

    async def _look(self) -> None:
        going = self._going
        if going is not None and (going.is_over or going.folder.is_over):
            going.writer.close()
            self._going = going = None
        if going is None:
            going = self._found()
        if going is None:
            return
        if current_digest(self._supervisor.target) != going.plan.incumbent:
            self._trials.finish(going, "the target serves another release than the incumbent now", Outcome.NOT_YET)
            return
        left = [number for number in range(going.recorder.requests) if number not in going.tally.replayed]
        if not left and self._is_full(going):
            self._trials.finish(
                going, f"{going.recorder.requests} replayed requests did not decide it", Outcome.NOT_YET
            )
        elif len(left) >= (1 if self._is_full(going) else self._batch) and self._is_idle():
            await self._replay(going, left[: self._batch])

    def _found(self) -> _Going | None:
        found = self._trials.running(self._supervisor.target, Way.SHADOW)
        if found is None:
            return None
        folder, plan = found
        if plan.recording is None:
            return None
        tally = Tally(plan)
        tally.add_all(folder.records())
        sheet = folder.goldens(plan)
        self._going = _Going(
            folder=folder,
            plan=plan,
            tally=tally,
            writer=folder.writer(),
            recording=plan.recording,
            recorder=folder.recorder(),
            left_out=patterns(plan.recording.redact),
            marks=None if sheet is None else self._open_goldens(sheet),
        )
        most = plan.recording.requests
        said = f"up to {most} requests are recorded, to be asked of {plan.challenger_version} ({plan.id})"
        self._trials.tell(said, plan)
        return self._going

    # ------------------------------------------------------------------------------------------ one batch

    async def _replay(self, going: _Going, numbers: list[int]) -> None:
        bodies = going.recorder.read(numbers)
        first = going.plan.first_of(numbers[0])
        try:
            replies = {}
            for arm in (first, Arm.INCUMBENT if first is Arm.CHALLENGER else Arm.CHALLENGER):
                ask = self._of_challenger if arm is Arm.CHALLENGER else self._of_incumbent
                replies[arm] = await ask(going, bodies)
        except _UsersCame:
            return
        for number in numbers:
            ours, theirs = replies[Arm.CHALLENGER][number], replies[Arm.INCUMBENT][number]
            golden = question_in(going.marks, bodies[number])
            at = datetime.now(UTC)
            pair = Paired(at=at, number=number, first=first, golden=golden, challenger=ours, incumbent=theirs)
            if going.is_over or going.folder.is_over:
                return
            self._trials.add(going, pair)

    async def _of_incumbent(self, going: _Going, bodies: Mapping[int, Mapping[str, Any]]) -> dict[int, Replied]:
        deadline = time.monotonic() + self._answer_s
        while (server := self._supervisor.serving) is None or server.release.digest != going.plan.incumbent:
            if self._supervisor.held or time.monotonic() > deadline:
                raise _UsersCame
            await asyncio.sleep(self._poll_s)
        return await self._of(server, going.marks, bodies, lambda: not self._is_idle())

    async def _of_challenger(self, going: _Going, bodies: Mapping[int, Mapping[str, Any]]) -> dict[int, Replied]:
        release = read_released(going.folder.release, going.plan.challenger)
        if not await self._supervisor.lend():
            raise _UsersCame
        server = self._supervisor.prepared(release)
        try:
            starting = asyncio.get_running_loop().create_task(self._supervisor.bring_up(server))
            try:
                while not starting.done():
                    await asyncio.wait({starting}, timeout=self._poll_s / 4)
                    if self._supervisor.held:
                        raise _UsersCame
                starting.result()
            except (MiltonError, Unanswered) as error:
                self._trials.finish(going, f"its server did not come up: {error}", Outcome.GO_BACK)
                raise _UsersCame from None
            finally:
                starting.cancel()
            replies = await self._of(server, going.marks, bodies, lambda: bool(self._supervisor.held))
            if not await server.listens():
                self._trials.has_died_for_good(going)
            return replies
        finally:
            # One that is still loading has memory until it is gone.
            await server.stop()
            self._supervisor.take_back()

    async def _of(
        self,
        server: ModelServer,
        marks: Marks | None,
        bodies: Mapping[int, Mapping[str, Any]],
        users_came: Callable[[], bool],
    ) -> dict[int, Replied]:
        replies = {}
        for number, body in bodies.items():
            asking = asyncio.get_running_loop().create_task(ask_again(server, body, timeout_s=self._answer_s))
            try:
                while not asking.done():
                    await asyncio.wait({asking}, timeout=self._poll_s / 4)
                    if users_came():
                        raise _UsersCame
                asked = asking.result()
                rate, question = asked.decode_tokens_per_s, question_in(marks, body)
                replies[number] = Replied(
                    failed=False,
                    first_token_s=asked.time_to_first_token_s,
                    per_token_s=1 / rate if rate else None,
                    output_tokens=asked.output_tokens,
                    answer_sha256=asked.sha256,
                    right=None
                    if marks is None or question is None
                    else await asyncio.to_thread(marks.is_right, question, asked.text),
                )
            except Unanswered:
                replies[number] = Replied(failed=True)
            finally:
                asking.cancel()
        return replies


def _kept(body: Any, left_out: re.Pattern[str]) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise BadInput("a request that is no object")
    return {name: redacted(value, left_out) for name, value in body.items() if name not in _LEFT_OUT}


def _now() -> datetime:
    return datetime.now(UTC)
