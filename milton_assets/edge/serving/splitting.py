"""Serving a challenger beside the release in service, for as long as a canary goes on, and splitting requests.

    splitter = Splitter(supervisor, open_goldens)
    drawn = splitter.draw(headers, body)             # None while there is no challenger that answers
    server = splitter.take(drawn)                    # None: the incumbent's turn
    splitter.ended(drawn, told)

What belongs here: the challenger's server, and each request's arm. What does not: ending the canary by its evidence
(`trial`), what the records say (`edge.canary`), and the incumbent (`supervisor`).

Both directions of failure are safe. Whatever becomes of the challenger, requests go to the incumbent: one that was lost
with it before its answer began is asked there, and counts against the challenger. A challenger that does not come up,
or dies three times, goes back for that. A gateway that is started again reads the journal and goes on with the canary.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from milton_assets.edge.canary.counts import Tally
from milton_assets.edge.canary.goldens import Marks, OpenGoldens, question_in_raw
from milton_assets.edge.canary.plan import Arm, CanaryPlan, Way
from milton_assets.edge.canary.records import RESPONSE_ID, Asked, Marked, Rated, Record
from milton_assets.edge.canary.verdict import Outcome
from milton_assets.edge.deployment.capacity import Memory, device_memory
from milton_assets.edge.serving.asking import Unanswered
from milton_assets.edge.serving.health_journal import HealthEvent
from milton_assets.edge.serving.http1 import Refused
from milton_assets.edge.serving.metrics import Outcome as Ended
from milton_assets.edge.serving.metrics import Told
from milton_assets.edge.serving.model_server import ModelServer
from milton_assets.edge.serving.released import current_digest, read_released
from milton_assets.edge.serving.supervisor import Mode, Supervisor
from milton_assets.edge.serving.texts import NoAnswer
from milton_assets.edge.serving.trial import Trial, Trials
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.strict_json import parse_json

MAX_FEEDBACK_BYTES = 1024
_REMEMBERED_RESPONSES = 20_000
_UNIT_CHARACTERS = 4096


@dataclass
class Drawn:
    """A request whose arm was drawn. `lost` says that it was lost with the challenger before its answer began.
    `question` is the golden question that it asks, and `turn` its place among those who ask the same."""

    number: int
    nth: int | None
    unit: str | None
    arm: Arm
    response: str
    lost: bool = False
    question: str | None = None
    turn: int | None = None


def _well_or_badly(value: int) -> int:
    if not value:
        raise ValueError("it is neither 1 nor -1")
    return value


class Feedback(BaseModel):
    """What `POST /feedback` takes: the answer's `x-milton-response-id`, and 1 (well) or -1 (badly)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    response_id: str = Field(pattern=RESPONSE_ID)
    value: Annotated[int, Field(ge=-1, le=1), AfterValidator(_well_or_badly)]


def feedback_in(raw: bytes) -> Feedback:
    """The feedback in a request's body. Raises `Refused`."""
    if len(raw) > MAX_FEEDBACK_BYTES:
        raise Refused(413, f"feedback of more than {MAX_FEEDBACK_BYTES} bytes")
    try:
        return Feedback.model_validate(parse_json(raw, "the feedback"))
    except (BadInput, ValidationError):
        raise Refused(
            400, 'feedback is {"response_id": the answer\'s x-milton-response-id, "value": 1 or -1}'
        ) from None


@dataclass(kw_only=True)
class _Going(Trial):
    """The canary that goes on."""

    next_number: int
    next_nth: int
    units: set[str]
    responses: OrderedDict[str, tuple[Arm, str | None]]
    rated: set[str]
    next_turns: dict[str, int]
    marks: Marks | None
    server: ModelServer | None = None
    starting: asyncio.Task[ModelServer] | None = None


class Splitter:
    """Looks for a canary in the folder that `supervisor` serves, and runs it. `on_event` hears how it goes;
    `open_goldens` reads the golden questions of one that has such."""

    def __init__(
        self,
        supervisor: Supervisor,
        open_goldens: OpenGoldens,
        *,
        on_event: Callable[[HealthEvent], None] = lambda _: None,
        memory: Callable[[], Memory] = device_memory,
        poll_s: float = 0.2,
        drain_s: float = 600.0,
    ) -> None:
        self._supervisor = supervisor
        self._open_goldens = open_goldens
        self._trials = Trials("canary", on_event)
        self._memory = memory
        self._poll_s = poll_s
        self._drain_s = drain_s
        self._going: _Going | None = None
        self._behind: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------------------------------ for requests

    @property
    def splits(self) -> str | None:
        """The canary for which requests are split, or recorded where this device is one arm as a whole."""
        going = self._going
        return going.plan.id if going is not None and self._compares(going) else None

    def _compares(self, going: _Going) -> bool:
        if going.plan.way is Way.WHOLE:
            serving = self._supervisor.serving
            return serving is not None and serving.release.digest == going.plan.serves
        return going.server is not None

    def draw(self, headers: Iterable[tuple[bytes, bytes]], chat: bytes | None = None) -> Drawn | None:
        """The arm of a request with these headers; None while requests are not split. `chat` is the body of a request
        for a chat completion."""
        going = self._going
        if going is None or going.is_over or not self._compares(going):
            return None
        plan, number = going.plan, going.next_number
        unit = self._unit(plan, headers)
        nth = None
        if unit is None or unit not in going.units:
            nth = going.next_nth
            going.next_nth += 1
            if unit is not None:
                going.units.add(unit)
        going.next_number += 1
        drawn = Drawn(number, nth, unit, plan.draw(unit or str(number)), secrets.token_hex(12))
        if chat is not None and (question := question_in_raw(going.marks, chat)) is not None:
            drawn.question = question
            if nth is not None:
                drawn.turn = going.next_turns.get(question, 0)
                going.next_turns[question] = drawn.turn + 1
        _remember(going.responses, drawn.response, (drawn.arm, unit))
        return drawn

    @staticmethod
    def _unit(plan: CanaryPlan, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        if plan.sticky_header is None:
            return None
        wanted = plan.sticky_header.encode("ascii")
        value = next((value for name, value in headers if bytes(name) == wanted), None)
        if value is None:
            return None
        return plan.unit(bytes(value[:_UNIT_CHARACTERS]).decode("latin-1"), datetime.now(UTC))

    def take(self, drawn: Drawn | None) -> ModelServer | None:
        """The challenger's server if the request is its and it is there; it is to be told `end()` as any."""
        going = self._going
        if drawn is None or drawn.arm is not Arm.CHALLENGER or going is None or going.server is None:
            return None
        going.server.begin()
        return going.server

    async def suspect(self, server: ModelServer) -> None:
        """A request was lost on the challenger's `server`: if it is gone, nothing more is given to it."""
        going = self._going
        if going is not None and server is going.server and not await server.listens():
            self._died(going)

    def ended(self, drawn: Drawn, told: Told, answer: Callable[[], str] | None = None) -> None:
        """A request whose arm was drawn has ended. The canary ends with it when its evidence suffices.

        `answer` gives the text of a whole answer, or raises `NoAnswer`; it is asked where a golden question was.
        """
        going = self._going
        if going is None or going.is_over:
            return
        if told.outcome is Ended.REFUSED and not told.model and not drawn.lost:
            return  # no server was ever asked: it says nothing of either
        asked = Asked(
            at=datetime.now(UTC),
            number=drawn.number,
            nth=drawn.nth,
            unit=drawn.unit,
            arm=drawn.arm,
            response=drawn.response,
            outcome=told.outcome.value,
            status=told.status,
            lost=drawn.lost,
            duration_s=told.duration_s,
            first_token_s=told.time_to_first_token_s,
            per_token_s=told.time_per_output_token_s,
            output_tokens=told.output_tokens,
            golden=None if drawn.question is None else Marked(question=drawn.question, turn=drawn.turn),
        )
        if asked.golden is None or answer is None or asked.erred or told.outcome is not Ended.ANSWERED:
            self._add(going, asked)
        else:
            self._do_behind(self._add_marked(going, asked, asked.golden, answer))

    async def _add_marked(self, going: _Going, asked: Asked, golden: Marked, answer: Callable[[], str]) -> None:
        """Add it once its answer is marked, which other users' streams need not wait for."""
        right = await asyncio.to_thread(_is_right, going.marks, golden.question, answer)
        if not going.is_over and going is self._going:
            self._add(going, asked.model_copy(update={"golden": golden.model_copy(update={"right": right})}))

    def rate(self, raw: bytes) -> None:
        """Take a user's feedback. Raises `Refused` for what is none, and for an answer that cannot be rated."""
        given = feedback_in(raw)
        going = self._going
        found = None if going is None or going.is_over else going.responses.get(given.response_id)
        if going is None or found is None:
            raise Refused(404, "no answer of that id is being compared (any more)")
        if given.response_id in going.rated:
            raise Refused(409, "that answer was rated already")
        going.rated.add(given.response_id)
        (arm, unit), value = found, 1 if given.value > 0 else -1
        rated = Rated.model_validate(
            {"at": datetime.now(UTC), "response": given.response_id, "unit": unit, "arm": arm, "value": value}
        )
        self._add(going, rated)

    def _add(self, going: _Going, record: Record) -> None:
        self._trials.add(going, record)
        if not going.is_over and going.tally.requests >= going.plan.max_requests:
            done = "were recorded" if going.plan.way is Way.WHOLE else "did not decide it"
            self._trials.finish(going, f"{going.plan.max_requests} requests {done}", Outcome.NOT_YET)

    # ------------------------------------------------------------------------------------------ behind the scenes

    async def run(self) -> None:
        """Look for canaries, and run what is found, until cancelled."""
        while True:
            try:
                await self._look()
            except (MiltonError, OSError) as error:
                self._trials.tell_once(f"the canary cannot be run: {error}")
            await asyncio.sleep(self._poll_s)

    async def stop(self, grace_s: float) -> None:
        """Let the challenger's requests end, `grace_s` seconds at most, and stop it; the canary itself goes on."""
        going, self._going = self._going, None
        if going is not None:
            going.writer.close()
            if going.starting is not None:
                going.starting.cancel()
                await asyncio.gather(going.starting, return_exceptions=True)
            if going.server is not None:
                await _retire(going.server, grace_s)
        for task in tuple(self._behind):
            task.cancel()
        await asyncio.gather(*self._behind, return_exceptions=True)

    async def _look(self) -> None:
        going = self._going
        if going is not None and (going.is_over or going.folder.is_over):
            await self._let_go(going)
            going = None
        if going is None:
            going = await self._found()
        if going is None:
            return
        current, serving = current_digest(self._supervisor.target), self._supervisor.serving
        if current != going.plan.serves:
            now_is = "nothing" if current is None else f"the release {short(current)}"
            why = f"the target serves {now_is} now, not the {going.plan.arm or Arm.INCUMBENT}"
            self._trials.finish(going, why, Outcome.NOT_YET)
        elif going.plan.way is Way.WHOLE:
            return
        elif going.starting is not None:
            if going.starting.done():
                self._started(going, going.starting)
        elif going.server is not None:
            if not await going.server.listens():
                self._died(going)
        elif serving is not None and serving.release.digest == current:
            self._start(going)

    async def _found(self) -> _Going | None:
        found = self._trials.running(self._supervisor.target, Way.SPLIT, Way.WHOLE)
        if found is None:
            return None
        folder, plan = found
        records = await asyncio.to_thread(folder.records)
        tally = Tally(plan)
        tally.add_all(records)
        asked = [record for record in records if isinstance(record, Asked)]
        responses: OrderedDict[str, tuple[Arm, str | None]] = OrderedDict()
        for one in asked[-_REMEMBERED_RESPONSES:]:
            responses[one.response] = one.arm, one.unit
        sheet = await asyncio.to_thread(folder.goldens, plan)
        marks = None if sheet is None else await asyncio.to_thread(self._open_goldens, sheet)
        self._going = _Going(
            folder=folder,
            plan=plan,
            tally=tally,
            writer=folder.writer(),
            next_number=tally.next_number,
            next_nth=tally.next_nth,
            units={one.unit for one in asked if one.unit is not None},
            responses=responses,
            rated={record.response for record in records if isinstance(record, Rated)},
            next_turns=dict(tally.next_turns),
            marks=marks,
        )
        self._trials.begin()
        return self._going

    def _start(self, going: _Going) -> None:
        release = read_released(going.folder.release, going.plan.challenger)
        has = self._memory().available_bytes
        if self._supervisor.mode is Mode.ONE and not going.plan.assume_memory:
            self._trials.finish(
                going, "the gateway is told that memory holds one model (`serving.mode`)", Outcome.NOT_YET
            )
            return
        if self._supervisor.mode is Mode.AUTO and not going.plan.assume_memory and has < release.ram_bytes:
            why = f"{has >> 20:,} MiB of memory are available, the challenger needs {release.ram_bytes >> 20:,} MiB"
            self._trials.finish(going, why, Outcome.NOT_YET)
            return
        going.starting = asyncio.get_running_loop().create_task(self._supervisor.beside(release))

    def _started(self, going: _Going, starting: asyncio.Task[ModelServer]) -> None:
        going.starting = None
        try:
            going.server = starting.result()
        except (MiltonError, Unanswered) as error:
            self._trials.finish(going, f"its server did not come up: {error}", Outcome.GO_BACK)
            return
        plan = going.plan
        said = (
            f"{plan.challenger_version} gets {plan.share:.0%} of the requests of {plan.incumbent_version} ({plan.id})"
        )
        self._trials.tell(said, plan)

    def _died(self, going: _Going) -> None:
        server, going.server = going.server, None
        if server is None:
            return
        self._do_behind(_retire(server, 0.0))
        if not self._trials.has_died_for_good(going):
            self._trials.tell(
                "the challenger's server died; its requests go to the incumbent until it is up", going.plan
            )

    async def _let_go(self, going: _Going) -> None:
        self._going = None
        going.is_over = True
        going.writer.close()
        if going.starting is not None:
            going.starting.cancel()
            await asyncio.gather(going.starting, return_exceptions=True)
        if going.server is not None:
            self._do_behind(_retire(going.server, self._drain_s))

    def _do_behind(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)


def _is_right(marks: Marks | None, question: str, answer: Callable[[], str]) -> bool | None:
    try:
        return None if marks is None else marks.is_right(question, answer())
    except NoAnswer:
        return None


def _remember(
    responses: OrderedDict[str, tuple[Arm, str | None]], response: str, whose: tuple[Arm, str | None]
) -> None:
    responses[response] = whose
    if len(responses) > _REMEMBERED_RESPONSES:
        responses.popitem(last=False)


async def _retire(server: ModelServer, within_s: float) -> None:
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await server.drained()
    finally:
        await server.stop()
