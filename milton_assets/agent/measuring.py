"""The agent's verbs of measuring: take weights, serve them, make the requests that are ordered, tell what was seen.

What belongs here: one connection's measurement, and reading its questions. What does not: the requests
(`milton_assets.tiers.inference.client`), the server and the watch (`milton_assets.usecases.bench`), figures, which
are the controller's.

All of a measurement happens in one thread of its own, in the order in which it was asked for; it ends with the
connection, and its server with it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, TypeVar

from pydantic import TypeAdapter

from milton_assets.agent.device import Device
from milton_assets.edge.manifest import HealthContract
from milton_assets.fleet.measuring import (
    Answers,
    ContractRequest,
    MeasuredHere,
    MeasureRequest,
    QuestionsRequest,
    ServedThere,
    Weights,
    WeightsOffer,
    WeightsThere,
)
from milton_assets.fleet.wire import Frame, ProtocolViolated
from milton_assets.tiers.inference.orders import Client, Order, Taken, TakenOfTruth
from milton_assets.tiers.inference.plan import InferencePlan
from milton_assets.vocabulary.chat import ModelCallFailed
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.machine import Seen

MAX_REQUESTS = 100_000
"""A round that is ordered may have so many."""
MAX_CONCURRENCY = 4096
_ORDER, _TEXTS, _DIGEST = TypeAdapter(Order), TypeAdapter(list[str]), TypeAdapter(Sha256)
T = TypeVar("T")


class MeasuringDesk:
    """What one connection measures on `device`. To be closed."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._candidates = device.candidates()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="measuring")
        self._serving = ExitStack()
        self._asking = ExitStack()
        self._watching = ExitStack()
        self._here: MeasuredHere | None = None
        self._client: Client | None = None
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
        return self._in_thread(lambda: self._begin(request))

    def client(self, frame: Frame) -> dict[str, bool]:
        """Make requests by this plan from now on, over new connections."""
        plan = InferencePlan.model_validate_json(frame.payload)

        def opened() -> dict[str, bool]:
            here = self._measured()
            self._asking.close()
            self._client = self._asking.enter_context(here.open_client(here.served.endpoint, plan))
            return {"opened": True}

        return self._in_thread(opened)

    def take(self, frame: Frame) -> Taken:
        """Make a round of requests."""
        order = _ORDER.validate_python(frame.header.get("request"))
        if not 0 <= order.count <= MAX_REQUESTS:
            raise ProtocolViolated(f"a round of {order.count} requests", expected=f"at most {MAX_REQUESTS}")
        return self._in_thread(lambda: self._asks().take(order, lambda _: None))

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
        return self._in_thread(lambda: self._asks().take_of_truth(requests, concurrency))

    def tokens(self, frame: Frame) -> list[int]:
        """How many tokens texts have by the served model's tokenizer."""
        texts = _TEXTS.validate_json(frame.payload)
        count = self._measured().served.endpoint.count_tokens
        if count is None:
            raise ProtocolViolated("a count of tokens", expected="a server that offers its tokenizer")
        return self._in_thread(lambda: count(texts))

    def watch(self, frame: Frame) -> dict[str, bool]:
        """Watch the machine from now on."""

        def begun() -> dict[str, bool]:
            here = self._measured()
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
            return Answers(answers=self._in_thread(lambda: self._measured().answers(request)))
        except ModelCallFailed as error:
            return Answers(failed=error.kind, because=error.problem.removeprefix(f"{error.kind}: "))

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

    def _begin(self, request: MeasureRequest) -> ServedThere:
        self._end()
        with ExitStack() as stack:
            path = stack.enter_context(self._candidates.held(request.artefact))
            target = self._device.target
            here = stack.enter_context(target.measuring(Weights(path, request.artefact), request.model))
            served = here.served.endpoint
            told = ServedThere(
                base_url=served.base_url,
                slots=served.slots,
                counts_tokens=served.count_tokens is not None,
                fingerprint=here.fingerprint,
            )
            self._here = here
            self._serving = stack.pop_all()
        return told

    def _end(self) -> None:
        self._here = self._client = self._seen = None
        # The client's connections go before its server.
        with self._serving, self._watching, self._asking:
            pass
        self._serving, self._watching, self._asking = ExitStack(), ExitStack(), ExitStack()

    def _measured(self) -> MeasuredHere:
        if self._here is None:
            raise ProtocolViolated("a measurement of nothing", expected="`measure` before it")
        return self._here

    def _asks(self) -> Client:
        if self._client is None:
            raise ProtocolViolated("a round without a plan", expected="`client` before it")
        return self._client

    def _in_thread(self, work: Callable[[], T]) -> T:
        return self._thread.submit(work).result()


MEASURING_VERBS: dict[str, Callable[[MeasuringDesk, Frame], Any]] = {
    name: getattr(MeasuringDesk, name)
    for name in (
        "weights",
        "weights_chunk",
        "measure",
        "client",
        "take",
        "truth",
        "tokens",
        "watch",
        "seen",
        "questions",
        "measured",
        "contract",
    )
}
QUICK_VERB = "weights_chunk"
"""All others may take long."""
