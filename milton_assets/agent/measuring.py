"""The agent's verbs of measuring: take weights, serve them, make the requests that are ordered, tell what was seen.

What belongs here: one connection's measurement, and reading its questions. What does not: the requests
(`milton_assets.tiers.inference.client`), the server and the watch (`milton_assets.usecases.bench`), figures, which
are the controller's.

All of a measurement happens in one thread of its own, in the order in which it was asked for; it ends with the
connection, and its server with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from milton_assets.agent.device import Device
from milton_assets.edge.manifest import HealthContract
from milton_assets.fleet.measuring import (
    Answers,
    ContractRequest,
    Expectations,
    ExpectationsRequest,
    MeasuredHere,
    MeasureRequest,
    QuestionsRequest,
    ServedThere,
    Weights,
    WeightsOffer,
    WeightsThere,
)
from milton_assets.fleet.trying import AxesRequest, ChangesRequest, Pairing, TriedThere, TryRequest
from milton_assets.fleet.wire import Frame, ProtocolViolated
from milton_assets.tiers.inference.orders import Client, Order, Taken, TakenOfTruth
from milton_assets.tiers.inference.plan import InferencePlan
from milton_assets.vocabulary.chat import ModelCallFailed
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.machine import Seen
from milton_assets.vocabulary.secrets import without_secrets
from milton_assets.vocabulary.tuning import Axes

MAX_REQUESTS = 100_000
"""A round that is ordered may have so many."""
MAX_CONCURRENCY = 4096
_ORDER, _TEXTS, _DIGEST = TypeAdapter(Order), TypeAdapter(list[str]), TypeAdapter(Sha256)
T = TypeVar("T")


@dataclass
class _Server:
    """A server of this connection's, and the client that asks it."""

    here: MeasuredHere
    client: Client | None = None
    asking: ExitStack = field(default_factory=ExitStack)


class MeasuringDesk:
    """What one connection measures on `device`. To be closed."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._candidates = device.candidates()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="measuring")
        self._serving = ExitStack()
        self._watching = ExitStack()
        self._servers: tuple[_Server, ...] = ()
        self._seen: Seen | None = None

    def close(self) -> None:
        """End what is measured, and the server."""
        try:
            self._thread.submit(self._end).result()
        finally:
            self._thread.shutdown()

    def weights(self, frame: Frame) -> WeightsThere:
        """What is there of the offered weights."""
        return self._candidates.offer(WeightsOffer.model_validate(frame.header.get("request")))

    def weights_chunk(self, frame: Frame) -> dict[str, int]:
        """The next bytes of an offered file."""
        artefact, name, offset = (frame.header.get(key) for key in ("artefact", "name", "offset"))
        if type(offset) is not int or offset < 0 or not isinstance(name, str):
            raise ProtocolViolated("bytes of no weights", expected="the artefact, a file's name, and the offset")
        return {"at": self._candidates.take(_DIGEST.validate_python(artefact), name, offset, frame.payload)}

    def measure(self, frame: Frame) -> ServedThere:
        """Serve weights that are here."""
        request = MeasureRequest.model_validate(frame.header.get("request"))

        def begun() -> ServedThere:
            (told,) = self._begin(request.artefact, lambda weights: self._measuring(weights, request))
            return told

        return self._in_thread(begun)

    def axes(self, frame: Frame) -> Axes:
        """The settings that may be chosen here."""
        request = AxesRequest.model_validate(frame.header.get("request"))
        return self._in_thread(lambda: self._device.target.axes(_path(request.draft)))

    def changes(self, frame: Frame) -> dict[str, Any]:
        """What is to be written into this device's settings for choices."""
        request = ChangesRequest.model_validate(frame.header.get("request"))

        def changed() -> dict[str, Any]:
            target, draft = self._device.target, _path(request.draft)
            changed = dict(target.settings_changed(target.axes(draft).named(request.chosen), draft))
            if "extra_args" in changed:
                changed["extra_args"] = without_secrets(changed["extra_args"])
            return changed

        return self._in_thread(changed)

    def try_settings(self, frame: Frame) -> TriedThere:
        """Serve weights that are here with two of the settings that may be chosen."""
        request = TryRequest.model_validate(frame.header.get("request"))

        def begun() -> TriedThere:
            trial, standing = self._begin(request.artefact, lambda weights: self._trying(weights, request))
            return TriedThere(trial=trial, standing=standing)

        return self._in_thread(begun)

    def client(self, frame: Frame) -> dict[str, bool]:
        """Make requests by this plan from now on, over new connections."""
        plan = InferencePlan.model_validate_json(frame.payload)

        def opened() -> dict[str, bool]:
            server = self._server(frame)
            server.asking.close()
            opening = server.here.open_client(server.here.served.endpoint, plan)
            server.client = server.asking.enter_context(opening)
            return {"opened": True}

        return self._in_thread(opened)

    def take(self, frame: Frame) -> Taken:
        """Make a round of requests."""
        order = _ORDER.validate_python(frame.header.get("request"))
        if not 0 <= order.count <= MAX_REQUESTS:
            raise ProtocolViolated(f"a round of {order.count} requests", expected=f"at most {MAX_REQUESTS}")
        return self._in_thread(lambda: self._asks(frame).take(order, lambda _: None))

    def truth(self, frame: Frame) -> TakenOfTruth:
        """Measure a server whose truth is known."""
        requests, concurrency = (frame.header.get(key) for key in ("requests", "concurrency"))
        if type(requests) is not int or type(concurrency) is not int:
            raise ProtocolViolated("a calibration without numbers", expected="`requests` and `concurrency`")
        if not (1 <= requests <= MAX_REQUESTS and 1 <= concurrency <= MAX_CONCURRENCY):
            raise ProtocolViolated(
                f"a calibration of {requests} requests, {concurrency} at once",
                expected=f"at most {MAX_REQUESTS}, {MAX_CONCURRENCY} at once",
            )
        return self._in_thread(lambda: self._asks(frame).take_of_truth(requests, concurrency))

    def tokens(self, frame: Frame) -> list[int]:
        """How many tokens texts have by the served model's tokenizer."""
        texts = _TEXTS.validate_json(frame.payload)
        count = self._server(frame).here.served.endpoint.count_tokens
        if count is None:
            raise ProtocolViolated("a count of tokens", expected="a server that offers its tokenizer")
        return self._in_thread(lambda: count(texts))

    def watch(self, frame: Frame) -> dict[str, bool]:
        """Watch the machine from now on."""

        def begun() -> dict[str, bool]:
            here = self._server(frame).here
            self._watching.close()
            self._seen = self._watching.enter_context(here.watching())
            return {"watching": True}

        return self._in_thread(begun)

    def seen(self, frame: Frame) -> Seen:
        """What was seen since."""

        def ended() -> Seen:
            if self._seen is None:
                raise ProtocolViolated("what was seen, while nothing was watched", expected="`watch` before `seen`")
            self._watching.close()
            return self._seen

        return self._in_thread(ended)

    def questions(self, frame: Frame) -> Answers:
        """Greedy answers of the served model."""
        request = QuestionsRequest.model_validate_json(frame.payload)
        try:
            return Answers(answers=self._in_thread(lambda: self._server(frame).here.answers(request)))
        except ModelCallFailed as error:
            return Answers(failed=error.kind, because=error.problem.removeprefix(f"{error.kind}: "))

    def expectations(self, frame: Frame) -> Expectations:
        """What the served model expects in given texts."""
        request = ExpectationsRequest.model_validate_json(frame.payload)
        return self._in_thread(lambda: self._server(frame).here.expectations(request))

    def measured(self, frame: Frame) -> dict[str, bool]:
        """End the measurement. Raises `ServerFailed` when the server died or the weights changed meanwhile."""

        def ended() -> dict[str, bool]:
            self._end()
            return {"ended": True}

        return self._in_thread(ended)

    def contract(self, frame: Frame) -> HealthContract:
        """The health contract of weights that are here."""
        request = ContractRequest.model_validate(frame.header.get("request"))

        def contract() -> HealthContract:
            with self._candidates.held(request.artefact) as path:
                return self._device.target.contract(Weights(path, request.artefact), request)

        return self._in_thread(contract)

    @contextmanager
    def _measuring(self, weights: Weights, request: MeasureRequest) -> Iterator[tuple[MeasuredHere, ...]]:
        with self._device.target.measuring(weights, request.model) as here:
            yield (here,)

    def _trying(
        self, weights: Weights, request: TryRequest
    ) -> AbstractContextManager[tuple[MeasuredHere, MeasuredHere]]:
        target, draft = self._device.target, _path(request.draft)
        axes = target.axes(draft)
        of, against = axes.named(request.of), axes.named(request.against)
        return target.trying(Pairing(weights, request.model, of, against, draft))

    def _begin(
        self, artefact: str, serve: Callable[[Weights], AbstractContextManager[tuple[MeasuredHere, ...]]]
    ) -> tuple[ServedThere, ...]:
        self._end()
        with ExitStack() as stack:
            path = stack.enter_context(self._candidates.held(artefact))
            served = stack.enter_context(serve(Weights(path, artefact)))
            told = tuple(_told(here) for here in served)
            self._servers = tuple(map(_Server, served))
            self._serving = stack.pop_all()
        return told

    def _end(self) -> None:
        servers, self._servers, self._seen = self._servers, (), None
        # The clients' connections go before their servers.
        with self._serving, self._watching, ExitStack() as asking:
            for server in servers:
                asking.push(server.asking)
        self._serving, self._watching = ExitStack(), ExitStack()

    def _server(self, frame: Frame) -> _Server:
        number = frame.header.get("server", 0)
        if not self._servers:
            raise ProtocolViolated("a measurement of nothing", expected="`measure` or `try_settings` before it")
        if type(number) is not int or not 0 <= number < len(self._servers):
            raise ProtocolViolated(f"the server {number!r:.50}", expected=f"one of {len(self._servers)}, from 0")
        return self._servers[number]

    def _asks(self, frame: Frame) -> Client:
        if (client := self._server(frame).client) is None:
            raise ProtocolViolated("a round without a plan", expected="`client` before it")
        return client

    def _in_thread(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result()


def _told(here: MeasuredHere) -> ServedThere:
    served = here.served.endpoint
    return ServedThere(
        base_url=served.base_url,
        slots=served.slots,
        counts_tokens=served.count_tokens is not None,
        fingerprint=here.fingerprint,
    )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


MEASURING_VERBS: dict[str, Callable[[MeasuringDesk, Frame], Any]] = {
    name: getattr(MeasuringDesk, name)
    for name in (
        "weights",
        "weights_chunk",
        "measure",
        "axes",
        "changes",
        "try_settings",
        "client",
        "take",
        "truth",
        "tokens",
        "watch",
        "seen",
        "questions",
        "expectations",
        "measured",
        "contract",
    )
}
QUICK_VERB = "weights_chunk"
"""All others may take long."""
