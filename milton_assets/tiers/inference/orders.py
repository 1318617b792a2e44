"""What is ordered of a client that makes a measurement's requests, and what it brings back.

What belongs here: those nouns, and the protocol of a client. What does not: a client (`client` runs here,
`milton_assets.fleet.measuring_elsewhere` on a device), and what is made of what it brings (`tier`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from milton_assets.tiers.inference.connection import StampSummary
from milton_assets.tiers.inference.durations import Durations
from milton_assets.tiers.inference.energy import NOT_READ, Energy
from milton_assets.tiers.inference.plan import ClosedLoad, InferencePlan, OpenLoad
from milton_assets.tiers.inference.sample import Sample
from milton_assets.tiers.inference.truth import Truth
from milton_assets.tiers.inference.watch import ClientLoad
from milton_assets.vocabulary.server import Endpoint

MEASURED, WARM_UP, CALIBRATION = "measured", "warm_up", "calibration"

OnSample = Callable[[Sample], object]
"""Is told of every request once it is over."""


@dataclass(frozen=True)
class Order:
    """So many requests under a load, as one round: `number` orders the prompts, `phase` says what they are for.

    `left_s`: no request is begun later than so many seconds after the first; None has no such limit.
    """

    phase: str
    number: int
    count: int
    load: ClosedLoad | OpenLoad
    left_s: float | None = None


@dataclass(frozen=True)
class Taken:
    """One round as it was made. Offsets in ms since the client was opened.

    `samples` are in the order of their index. `gaps` are those between the tokens of each good measured request,
    `texts` what those said, by index, where the served model's tokenizer is offered. `cut` is how many requests were
    not begun. `load` and `stamps` are the client's from its opening on, `energy`
    is what its machine took for this round.
    """

    start_ms: float
    end_ms: float
    samples: tuple[Sample, ...]
    gaps: tuple[Durations, ...]
    texts: Mapping[int, str]
    cut: int
    load: ClientLoad
    stamps: StampSummary
    energy: Energy = NOT_READ


@dataclass(frozen=True)
class TakenOfTruth:
    """Requests to a server whose truth is known, and that truth by the request's number."""

    samples: tuple[Sample, ...]
    truths: Mapping[int, Truth] = field(default_factory=dict)


class Client(Protocol):
    """Makes requests to one server, wherever it runs itself, and keeps its connections from one order to the next."""

    def take(self, order: Order, on_sample: OnSample) -> Taken:
        """Carry out the order. What the server does wrong is rows, never an exception."""
        ...

    def take_of_truth(self, requests: int, concurrency: int) -> TakenOfTruth:
        """Measure a truth server on the client's own machine. Raises `ServerFailed` when that does not start."""
        ...


OpenClient = Callable[[Endpoint, InferencePlan], AbstractContextManager[Client]]
"""Opens a client of that endpoint for that plan, and closes its connections at the block's end."""
