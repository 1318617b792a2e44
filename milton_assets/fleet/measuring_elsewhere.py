"""Measuring a candidate on a device, asked of its agent over one connection.

What belongs here: the questions of a measurement and the reading of their answers. What does not: what is measured
(`measuring`), the connection (`asking`), and what the agent does (`milton_assets.agent.measuring`).

Weights travel once: the device keeps them by their digest, a cut transfer goes on where it ended, and what a release in
service holds is not sent. A measurement that is cut is over: half of one and half of another are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter

from milton_assets.fleet.asking import Asking
from milton_assets.fleet.measuring import (
    Answers,
    Expectations,
    ExpectationsRequest,
    MeasureRequest,
    QuestionsRequest,
    ServedThere,
    Weights,
    WeightsOffer,
    WeightsThere,
)
from milton_assets.fleet.messages import answered, valid
from milton_assets.fleet.sending import Sending
from milton_assets.fleet.trying import AxesRequest, ChangesRequest, TriedThere, TryRequest
from milton_assets.fleet.wire import ProtocolViolated
from milton_assets.tiers.inference.orders import Client, OnSample, OpenClient, Order, Taken, TakenOfTruth
from milton_assets.tiers.inference.plan import ClosedLoad, InferencePlan
from milton_assets.vocabulary.chat import ModelCallFailed
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.fingerprint import Fingerprint
from milton_assets.vocabulary.machine import Seen
from milton_assets.vocabulary.server import Endpoint, RunningServer
from milton_assets.vocabulary.tuning import Axes

_SPARE_S = 60.0
_START_S = 900.0
"""A device may hash and load a large model for so long."""
_ROUNDS = 3
_TAKEN, _TRUTH, _SEEN = TypeAdapter(Taken), TypeAdapter(TakenOfTruth), TypeAdapter(Seen)
_ORDER, _TEXTS, _COUNTS = TypeAdapter(Order), TypeAdapter(list[str]), TypeAdapter(list[int])
_AXES, _CHANGES = TypeAdapter(Axes), TypeAdapter(dict[str, int | list[str]])
T = TypeVar("T")


def offer_of(weights: Weights) -> WeightsOffer:
    """What is told of the weights before they travel."""
    return WeightsOffer(
        artefact=weights.sha256,
        files={name: path.stat().st_size for name, path in weights.files.items()},
        main=None if weights.path.is_dir() else weights.path.name,
    )


def send_weights(asking: Asking, weights: Weights, sending: Sending) -> None:
    """Send what the device lacks of the weights. Raises `BadInput` when they do not arrive as their digest says."""
    offer = offer_of(weights).model_dump(mode="json")
    for _ in range(_ROUNDS):
        there = answered(WeightsThere, asking.ask("weights", request=offer, within_s=_START_S))
        if there.whole:
            return
        for name, path in weights.files.items():
            size, have = path.stat().st_size, there.have.get(name, 0)
            sending.tally.needed_bytes += max(0, size - have)
            with path.open("rb") as stream:
                where = {"artefact": weights.sha256, "name": name}
                sending.rest_of(asking, "weights_chunk", stream.fileno(), have, size, str(path), **where)
    raise BadInput(
        f"{weights.path} does not arrive as the file with the SHA-256 {weights.sha256}",
        expected="the registered artefact",
        remedy="see whether it changed since it was registered, and the device's disk",
    )


@dataclass(frozen=True)
class MeasuredElsewhere:
    """A candidate that a device serves, asked over `asking`; implements `Measured`.

    `number` is which of the servers that the device started for this connection.
    """

    asking: Asking
    served: RunningServer
    fingerprint: Fingerprint
    number: int = 0

    @property
    def open_client(self) -> OpenClient:
        """See `Measured`."""

        @contextmanager
        def opened(endpoint: Endpoint, plan: InferencePlan) -> Iterator[Client]:
            if endpoint != self.served.endpoint:
                raise BadInput(f"the device serves {self.served.endpoint.base_url}", expected="that endpoint")
            self.asking.ask("client", plan.model_dump_json().encode(), server=self.number)
            yield _ClientElsewhere(self.asking, plan, self.number)

        return opened

    @contextmanager
    def watching(self) -> Iterator[Seen]:
        """See `Watches`. What the device saw is there once the block has ended well."""
        seen = Seen()
        self.asking.ask("watch")
        yield seen
        answer = self.asking.ask("seen")
        vars(seen).update(vars(valid(lambda: _SEEN.validate_python(answer), "watch of its machine")))

    def answers(self, request: QuestionsRequest) -> tuple[str, ...]:
        """See `Measured`."""
        payload = request.model_dump_json().encode()
        answer = self.asking.ask("questions", payload, server=self.number, within_s=_START_S)
        told = answered(Answers, answer)
        if told.failed is not None:
            raise ModelCallFailed(told.failed, told.because)
        if len(told.answers) != len(request.questions):
            raise ProtocolViolated(f"{len(told.answers)} answers", expected=f"{len(request.questions)}, one a question")
        return told.answers

    def expectations(self, request: ExpectationsRequest) -> Expectations:
        """See `Measured`."""
        payload = request.model_dump_json().encode()
        told = answered(Expectations, self.asking.ask("expectations", payload, server=self.number, within_s=_START_S))
        if told.because is None and len(told.texts) != len(request.texts):
            raise ProtocolViolated(f"expectations in {len(told.texts)} texts", expected=f"in {len(request.texts)}")
        return told


@contextmanager
def measured_elsewhere(asking: Asking, request: MeasureRequest) -> Iterator[MeasuredElsewhere]:
    """Have the device serve weights that it has, for the length of the block. Raises what the device raised."""
    told = answered(ServedThere, asking.ask("measure", request=request.model_dump(mode="json"), within_s=_START_S))
    yield _served_there(asking, request.model, told, 0)
    asking.ask("measured", within_s=_START_S)


@contextmanager
def tried_elsewhere(asking: Asking, request: TryRequest) -> Iterator[tuple[MeasuredElsewhere, MeasuredElsewhere]]:
    """Have the device serve weights that it has with two settings, for the length of the block. Raises what the device
    raised."""
    asked = request.model_dump(mode="json")
    told = answered(TriedThere, asking.ask("try_settings", request=asked, within_s=2 * _START_S))
    yield _served_there(asking, request.model, told.trial, 0), _served_there(asking, request.model, told.standing, 1)
    asking.ask("measured", within_s=_START_S)


def axes_elsewhere(asking: Asking, request: AxesRequest) -> Axes:
    """What may be chosen on the device. Raises what the device raised."""
    answer = asking.ask("axes", request=request.model_dump(mode="json"), within_s=_START_S)
    return valid(lambda: _AXES.validate_python(answer), "list of settings to choose from")


def changes_elsewhere(asking: Asking, request: ChangesRequest) -> dict[str, Any]:
    """What is to be written into the device's settings for those choices. Raises what the device raised."""
    answer = asking.ask("changes", request=request.model_dump(mode="json"), within_s=_START_S)
    return valid(lambda: _CHANGES.validate_python(answer), "settings")


def _served_there(asking: Asking, model: str, told: ServedThere, number: int) -> MeasuredElsewhere:
    if told.fingerprint.server is None:
        raise ProtocolViolated("a server without its fingerprint", expected="what the device serves with")

    def count(texts: Sequence[str]) -> list[int]:
        answer = asking.ask("tokens", _TEXTS.dump_json(list(texts)), server=number, within_s=_START_S)
        return valid(lambda: _COUNTS.validate_python(answer), "count of tokens")

    endpoint = Endpoint(told.base_url, model, told.slots, count_tokens=count if told.counts_tokens else None)
    return MeasuredElsewhere(asking, RunningServer(endpoint, told.fingerprint.server), told.fingerprint, number)


@dataclass(frozen=True)
class _ClientElsewhere:
    asking: Asking
    plan: InferencePlan
    number: int

    def take(self, order: Order, on_sample: OnSample) -> Taken:
        """See `Client`. Its samples are told when the round is over."""
        told = _ORDER.dump_python(order, mode="json")
        answer = self.asking.ask("take", request=told, server=self.number, within_s=self._longest_s(order))
        taken = valid(lambda: _TAKEN.validate_python(answer), "round")
        if len(taken.samples) + taken.cut != order.count:
            raise ProtocolViolated(
                f"a round of {len(taken.samples)} requests, {taken.cut} of them not made", expected=f"{order.count}"
            )
        for sample in taken.samples:
            on_sample(sample)
        return taken

    def take_of_truth(self, requests: int, concurrency: int) -> TakenOfTruth:
        """See `Client`."""
        within_s, number = _SPARE_S + requests, self.number
        answer = self.asking.ask("truth", requests=requests, concurrency=concurrency, server=number, within_s=within_s)
        return valid(lambda: _TRUTH.validate_python(answer), "calibration")

    def _longest_s(self, order: Order) -> float:
        """How long a round may take: every request as long as one may, and no more are begun than are in time."""
        lanes = order.load.concurrency if isinstance(order.load, ClosedLoad) else order.count
        every_s = self.plan.request_timeout_s * -(-order.count // max(1, lanes))
        if not isinstance(order.load, ClosedLoad):
            every_s += order.count / order.load.rate_per_s
        in_time_s = every_s if order.left_s is None else order.left_s + self.plan.request_timeout_s
        return min(every_s, in_time_s) + _SPARE_S
