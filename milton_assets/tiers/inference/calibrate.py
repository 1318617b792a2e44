"""What the client itself adds: it measures a server whose truth is known.

What belongs here: running the truth server, and the difference between what was reported and what was true. What does
not: deciding what follows from it (`validity`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from milton_assets.tiers.inference.sample import Sample
from milton_assets.vocabulary.errors import MiltonError, ServerFailed

_PROGRAM = Path(__file__).with_name("truth_server.py")
FIRST_TOKEN_MS, INTER_TOKEN_MS, TOKENS = 8.0, 2.0, 6
SPAN_MS = INTER_TOKEN_MS * (TOKENS - 1)
"""From first to last token of a calibration request."""
_MIN_REQUESTS = 24


class CalibrationFailed(MiltonError):
    """The client could not measure a server on its own machine, so nothing else it says can be trusted."""


@dataclass(frozen=True)
class Truth:
    """The true instants of one request (ns): it arrived, the first token went out, the last one, the end."""

    arrived_ns: int
    first_ns: int
    last_ns: int
    end_ns: int

    @property
    def ttft_ms(self) -> float:
        """True time to first token."""
        return (self.first_ns - self.arrived_ns) / 1e6

    @property
    def e2e_ms(self) -> float:
        """True end-to-end latency."""
        return (self.end_ns - self.arrived_ns) / 1e6

    def tpot_ms(self, tokens: int) -> float:
        """True time per output token."""
        return (self.last_ns - self.first_ns) / 1e6 / (tokens - 1)


class TruthServerProcess:
    """A running truth server. `truths` is filled once the block that started it has ended."""

    def __init__(self, port: int) -> None:
        self.base_url = f"http://127.0.0.1:{port}"
        self.truths: dict[int, Truth] = {}


@contextmanager
def truth_server(
    *, first_token_ms: float, inter_token_ms: float, tokens: int, role_first: bool = False, stamps: str = "kernel"
) -> Iterator[TruthServerProcess]:
    """Run the truth server in a process of its own, and read its log at the end. Raises `ServerFailed`."""
    options = [
        f"--first-token-ms={first_token_ms}",
        f"--inter-token-ms={inter_token_ms}",
        f"--tokens={tokens}",
        f"--stamps={stamps}",
    ]
    process = subprocess.Popen(
        [sys.executable, "-I", str(_PROGRAM), *options, *(["--role-first"] if role_first else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        port = (process.stdout.readline() if process.stdout else "").strip()
        if not port.isdigit():
            raise ServerFailed("the truth server did not start", remedy=f"run {_PROGRAM} and see what it says")
        server = TruthServerProcess(int(port))
        yield server
        log, _ = process.communicate("", timeout=10)
        server.truths = {
            number: Truth(*instants) for number, instants in enumerate(json.loads(log)) if None not in instants
        }
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@dataclass(frozen=True)
class Bias:
    """Reported minus true: the median, and the 99th percentile of its magnitude."""

    median: float
    p99: float

    @classmethod
    def of(cls, differences: Sequence[float]) -> Bias:
        """Of differences, at least one."""
        values = np.asarray(differences)
        return cls(float(np.median(values)), float(np.quantile(np.abs(values), 0.99)))


@dataclass(frozen=True)
class Calibration:
    """The client's bias at the concurrency it is about to measure with; TPOT's in per cent, over `SPAN_MS`."""

    requests: int
    concurrency: int
    ttft_bias_ms: Bias
    e2e_bias_ms: Bias
    tpot_bias_percent: Bias


async def calibrate(concurrency: int, measure: Callable[[str, int, int], Awaitable[Sequence[Sample]]]) -> Calibration:
    """Have `measure(base_url, requests, concurrency)` measure a truth server, and compare.

    Raises `CalibrationFailed` when a request failed there.
    """
    requests = max(_MIN_REQUESTS, 2 * concurrency)
    with truth_server(first_token_ms=FIRST_TOKEN_MS, inter_token_ms=INTER_TOKEN_MS, tokens=TOKENS) as server:
        samples = await measure(server.base_url, requests, concurrency)
    if failed := [sample for sample in samples if not sample.ok]:
        raise CalibrationFailed(
            f"{len(failed)} of {len(samples)} calibration requests failed, the first with "
            f"{failed[0].error_kind}: {failed[0].error_detail}",
            expected="a server on this machine's loopback to be reachable",
            remedy="look for a firewall or a proxy on the loopback interface, or for a limit on open files",
        )
    return compare(samples, server.truths, concurrency)


def compare(samples: Sequence[Sample], truths: dict[int, Truth], concurrency: int) -> Calibration:
    """Match each sample with its truth by the number in its text, and sum the differences up.

    Raises `CalibrationFailed` for a sample that the truth server's log does not know.
    """
    pairs = [(sample, _truth_of(sample, truths)) for sample in samples]
    return Calibration(
        requests=len(pairs),
        concurrency=concurrency,
        ttft_bias_ms=Bias.of([(s.ttft_ms or 0.0) - t.ttft_ms for s, t in pairs]),
        e2e_bias_ms=Bias.of([(s.e2e_ms or 0.0) - t.e2e_ms for s, t in pairs]),
        tpot_bias_percent=Bias.of([((s.tpot_ms or 0.0) / t.tpot_ms(s.output_tokens or 2) - 1) * 100 for s, t in pairs]),
    )


def _truth_of(sample: Sample, truths: dict[int, Truth]) -> Truth:
    number = sample.output_head.partition(" ")[0]
    if number.isdigit() and int(number) in truths:
        return truths[int(number)]
    raise CalibrationFailed(
        f"the calibration server's log has no whole answer {number!r}",
        expected=f"one of the {len(truths)} that it logged",
        remedy="measure again; if it stays so, look for what else answers on the loopback interface",
    )
