"""What the client itself adds, told from its requests to a server whose truth is known.

What belongs here: the difference between what was reported and what was true. What does not: running that server
(`truth`), asking it (`client`), and deciding what follows (`validity`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from milton_assets.tiers.inference.sample import Sample
from milton_assets.tiers.inference.truth import Truth, pace
from milton_assets.vocabulary.errors import MiltonError

_MIN_REQUESTS = 24


class CalibrationFailed(MiltonError):
    """The client could not measure a server on its own machine, so nothing else it says can be trusted."""


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
    """The client's bias at the concurrency it is about to measure with; TPOT's in per cent, over `span_ms`."""

    requests: int
    concurrency: int
    ttft_bias_ms: Bias
    e2e_bias_ms: Bias
    tpot_bias_percent: Bias

    @property
    def span_ms(self) -> float:
        """From first to last token of a request at that concurrency."""
        return pace(self.concurrency).span_ms

    @classmethod
    def stated(cls, provenance: Mapping[str, Any]) -> Calibration | None:
        """What a table says of the client that it was measured with; None where that was not calibrated."""
        return None if (told := provenance["calibration"]) is None else _CALIBRATION.validate_python(told)


_CALIBRATION = TypeAdapter(Calibration)


def calibration_requests(concurrency: int) -> int:
    """How many requests tell what a client adds at that concurrency."""
    return max(_MIN_REQUESTS, 2 * concurrency)


def compare(samples: Sequence[Sample], truths: Mapping[int, Truth], concurrency: int) -> Calibration:
    """Match each sample with its truth by the number in its text, and sum the differences up.

    Raises `CalibrationFailed` when a request failed, and for a sample that the truth server's log does not know.
    """
    if failed := [sample for sample in samples if not sample.ok]:
        raise CalibrationFailed(
            f"{len(failed)} of {len(samples)} calibration requests failed, the first with "
            f"{failed[0].error_kind}: {failed[0].error_detail}",
            expected="a server on this machine's loopback to be reachable",
            remedy="look for a firewall or a proxy on the loopback interface, or for a limit on open files",
        )
    pairs = [(sample, _truth_of(sample, truths)) for sample in samples]
    return Calibration(
        requests=len(pairs),
        concurrency=concurrency,
        ttft_bias_ms=Bias.of([(s.ttft_ms or 0.0) - t.ttft_ms for s, t in pairs]),
        e2e_bias_ms=Bias.of([(s.e2e_ms or 0.0) - t.e2e_ms for s, t in pairs]),
        tpot_bias_percent=Bias.of([((s.tpot_ms or 0.0) / t.tpot_ms(s.output_tokens or 2) - 1) * 100 for s, t in pairs]),
    )


def _truth_of(sample: Sample, truths: Mapping[int, Truth]) -> Truth:
    number = sample.output_head.partition(" ")[0]
    if number.isdigit() and int(number) in truths:
        return truths[int(number)]
    raise CalibrationFailed(
        f"the calibration server's log has no whole answer {number!r}",
        expected=f"one of the {len(truths)} that it logged",
        remedy="measure again; if it stays so, look for what else answers on the loopback interface",
    )
