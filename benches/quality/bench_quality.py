"""How much of the quality tiers' wall time the server is busy: the client should never be what it waits for.

    python benches/quality/bench_quality.py [--gguf FILE] [--slots 1 2] [--tiers retrieval reasoning]
        [--queries 12] [--cases-per-kind 2]

Serves a model with llama.cpp at each number of slots, runs the retrieval and the reasoning tier at as many calls as
there are slots, and compares the wall time with the time that the server itself reports it was busy. Fails when wall
time exceeds 1.15 times busy time, or when the client kept fewer than .85 calls a slot in flight, on the mean over the
wall time.

Busy time is the server's own: each answer's `timings` say how long the server worked on its prompt and on its tokens. A
call's work is laid so that it ends when its answer arrives, and the union of all calls' work is counted, so that what
several slots do at once counts once. Loading the model is left out; a tier's wall time is from its call to its result,
with BM25, scoring and bootstrap.

A client that asks one at a time keeps that union as full as one that asks two, so busy time alone does not show lost
concurrency. Nor would an overlap of the server's spans: slots whose prompts fill a batch take turns, whatever the
client does. What the client owes is that the server always has as many calls as slots, hence the calls in flight, each
from being sent to its answer.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from milton_assets.settings import load_settings
from milton_assets.tiers import reasoning, retrieval
from milton_assets.vocabulary.chat import ChatModel, Message, Sampling
from milton_assets.vocabulary.errors import ServerFailed
from milton_assets.vocabulary.server import RunningServer
from milton_assets.vocabulary.tier import TierResult
from resources.demo_models import SMOLLM2
from resources.servers.client import OpenAIChatModel
from resources.servers.exchange import Transport
from resources.servers.llama_cpp import LlamaCppLauncher
from resources.servers.repeatable import repeatable
from resources.wheel_models import fetch

MOST_WALL_PER_BUSY = 1.15
LEAST_IN_FLIGHT_PER_SLOT = 0.85
FEWEST_CALLS_PER_SLOT = 15
"""With fewer, the last calls, which have no successor, weigh too much in the mean."""
TIERS = ("retrieval", "reasoning")
CALL_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Utilisation:
    """One tier's run at one number of slots."""

    tier: str
    slots: int
    calls: int
    wall_s: float
    busy_s: float
    in_flight: float

    @property
    def wall_per_busy(self) -> float:
        """Wall time over the server's own busy time."""
        return self.wall_s / self.busy_s if self.busy_s else float("inf")

    @property
    def faults(self) -> tuple[str, ...]:
        """What is beyond the limits."""
        found = []
        if self.wall_per_busy > MOST_WALL_PER_BUSY:
            found.append(f"wall/busy is more than {MOST_WALL_PER_BUSY}")
        if self.calls >= FEWEST_CALLS_PER_SLOT * self.slots and self.in_flight < LEAST_IN_FLIGHT_PER_SLOT * self.slots:
            found.append(f"fewer than {LEAST_IN_FLIGHT_PER_SLOT} x {self.slots} calls in flight")
        return tuple(found)

    def line(self) -> str:
        """A row for people."""
        return (
            f"{self.tier:<10} {self.slots:>5} {self.calls:>6} {self.wall_s:>8.1f} {self.busy_s:>8.1f} "
            f"{self.wall_per_busy:>9.3f} {self.in_flight:>9.2f}  {'; '.join(self.faults) or 'ok'}"
        )


class TimedTransport(Transport):
    """A transport that keeps when each call was in flight, and when the server worked on it by its own account."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.worked: list[tuple[float, float]] = []
        self.in_flight: list[tuple[float, float]] = []

    def json(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer's JSON. Raises `ServerFailed` when a completion carries no timings."""
        sent = time.perf_counter()
        found = super().json(method, url, body)
        arrived = time.perf_counter()
        timings = found.get("timings") or {}
        if not {"prompt_ms", "predicted_ms"} <= timings.keys():
            raise ServerFailed(f"{url} answered without timings", expected="a llama.cpp server")
        self.in_flight.append((sent, arrived))
        self.worked.append((arrived - (timings["prompt_ms"] + timings["predicted_ms"]) / 1000, arrived))
        return found


class TimedChatModel(OpenAIChatModel):
    """The client as it is, over a `TimedTransport`."""

    def __init__(self, served: RunningServer) -> None:
        super().__init__(served.endpoint, asking=repeatable(served.fingerprint))
        self._transport.close()
        self.timed = TimedTransport(served.endpoint.base_url, served.endpoint.api_key, CALL_TIMEOUT_S)
        self._transport = self.timed


def union_s(spans: Sequence[tuple[float, float]]) -> float:
    """The length of the union of the spans."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def utilisation(served: RunningServer, tier: str, measure: Callable[[ChatModel], TierResult]) -> Utilisation:
    """Run one tier and compare the clock with the server's own account."""
    with TimedChatModel(served) as chat:
        chat.complete([Message("user", "Hello")], Sampling(max_tokens=1))
        chat.timed.worked.clear()
        chat.timed.in_flight.clear()
        began = time.perf_counter()
        measure(chat)
        wall_s = time.perf_counter() - began
        worked = [(max(start, began), end) for start, end in chat.timed.worked]
        in_flight = sum(end - start for start, end in chat.timed.in_flight) / wall_s
    return Utilisation(tier, served.endpoint.slots, len(worked), wall_s, union_s(worked), in_flight)


def runs(gguf: Path, slots: int, tiers: Sequence[str], queries: int, cases_per_kind: int) -> Iterator[Utilisation]:
    """The tiers at one number of slots."""
    retrieval_plan = retrieval.RetrievalPlan(max_queries=queries, pool_size=8, concurrency=slots)
    reasoning_plan = reasoning.ReasoningPlan.smoke().model_copy(
        update={"cases_per_kind": cases_per_kind, "concurrency": slots}
    )
    measures: dict[str, Callable[[ChatModel], TierResult]] = {
        "retrieval": lambda chat: retrieval.measure_retrieval(chat, retrieval.load_goldens(), retrieval_plan),
        "reasoning": lambda chat: reasoning.measure_reasoning(chat, reasoning.load_goldens(), reasoning_plan),
    }
    with LlamaCppLauncher(slots=slots).serve(gguf, "bench") as served:
        for tier in tiers:
            yield utilisation(served, tier, measures[tier])


def main() -> int:
    """Print a row a tier and number of slots; 1 when any is beyond the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, help="default: the demo's SmolLM2-135M-Instruct, fetched once")
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--tiers", nargs="+", default=TIERS, choices=TIERS)
    parser.add_argument("--queries", type=int, default=12)
    parser.add_argument("--cases-per-kind", type=int, default=2)
    options = parser.parse_args()
    gguf = options.gguf or fetch(SMOLLM2, load_settings().cache_dir)
    print("tier       slots  calls   wall s   busy s wall/busy in flight")
    faults: list[str] = []
    for slots in options.slots:
        for found in runs(gguf, slots, options.tiers, options.queries, options.cases_per_kind):
            print(found.line(), flush=True)
            faults += found.faults
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
