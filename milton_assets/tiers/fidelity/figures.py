"""The figures of the fidelity tier: what they are and how they come out of what was seen place by place.

What belongs here: definitions and computing. What does not: one place (`divergence`), and asking models (`tier`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from milton_assets.statistics.blocks import mean_interval, quantile, quantile_interval
from milton_assets.statistics.bootstrap import Array
from milton_assets.tiers.fidelity.divergence import difference
from milton_assets.vocabulary.forcing import Forced
from milton_assets.vocabulary.metric import Metric

KL: Final = "kl_to_reference"
KL_TAIL: Final = "kl_to_reference.p999"
FLIPS: Final = "top1_flips"
FLIP_TAIL: Final = "flip_loss.p999"
UNLISTED: Final = "unlisted_mass"
PERPLEXITY: Final = "perplexity"
REFERENCE: Final = "reference"
METRICS: Final = (
    (KL, "nats/token"),
    (KL_TAIL, "nats"),
    (FLIPS, "fraction"),
    (FLIP_TAIL, "probability"),
    (PERPLEXITY, "perplexity"),
    (f"{REFERENCE}:{PERPLEXITY}", "perplexity"),
    (UNLISTED, "probability"),
)
"""Name and unit of each. `kl_to_reference` and its tail are lower bounds, see `divergence`."""

_UNITS = dict(METRICS)
TAIL: Final = 0.999
LEAST_FOR_TAIL: Final = 1000
"""Of fewer places the one in a thousand is not among them."""


def columns(passage_ids: Sequence[str], mine: Sequence[Forced], theirs: Sequence[Forced] | None) -> pd.DataFrame:
    """A row a place of which something is known; what needs the reference is NaN or null without one. No text, only
    numbers of tokens."""
    rows = []
    for number, (passage_id, forced) in enumerate(zip(passage_ids, mine, strict=True)):
        for place, expected in enumerate(forced.places):
            reference = theirs[number].places[place] if theirs is not None else None
            if expected is None or (theirs is not None and reference is None):
                continue
            told = difference(reference, expected) if reference is not None else None
            rows.append(
                {
                    "passage_id": passage_id,
                    "position": forced.first + place,
                    "token": expected.token,
                    "logprob": expected.logprob,
                    "reference_logprob": reference.logprob if reference is not None else math.nan,
                    "kl": told.kl if told is not None else math.nan,
                    "flipped": told.flipped if told is not None else None,
                    "flip_loss": told.flip_loss if told is not None else math.nan,
                    "unlisted": told.unlisted if told is not None else math.nan,
                }
            )
    return pd.DataFrame(rows)


def metrics(
    samples: pd.DataFrame, missing: Metric | None, *, draws: int, seed: int, level: float
) -> tuple[Metric, ...]:
    """Every figure of `METRICS` of the rows of `columns`; `missing` says why there is nothing of the reference."""
    block_of, _ = pd.factorize(samples["passage_id"])
    n = len(samples)

    def mean(name: str, column: Array) -> Metric:
        interval = mean_interval(column, block_of, draws=draws, seed=seed, level=level)
        return Metric.measured(name, _UNITS[name], float(column.mean()), n=n, interval=interval)

    def tail(name: str, column: Array) -> Metric:
        if n < LEAST_FOR_TAIL:
            why = f"{n} places were looked at, and the figure at {TAIL:.1%} takes {LEAST_FOR_TAIL} at least"
            return Metric.skipped(name, _UNITS[name], why)
        interval = quantile_interval(column, block_of, TAIL, draws=draws, seed=seed, level=level)
        return Metric.measured(name, _UNITS[name], quantile(column, TAIL), n=n, interval=interval)

    def perplexity(name: str, column: Array) -> Metric:
        interval = mean_interval(-column, block_of, draws=draws, seed=seed, level=level)
        if interval is not None:
            ends = {"low": _exp(interval.low), "high": _exp(interval.high)}
            interval = interval.model_copy(update=ends) if math.isfinite(ends["high"]) else None
        return Metric.measured(name, _UNITS[name], _exp(-float(column.mean())), n=n, interval=interval)

    found = {PERPLEXITY: perplexity(PERPLEXITY, _floats(samples, "logprob"))}
    if missing is None:
        name = f"{REFERENCE}:{PERPLEXITY}"
        found |= {
            KL: mean(KL, _floats(samples, "kl")),
            KL_TAIL: tail(KL_TAIL, _floats(samples, "kl")),
            FLIPS: mean(FLIPS, _floats(samples, "flipped")),
            FLIP_TAIL: tail(FLIP_TAIL, _floats(samples, "flip_loss")),
            UNLISTED: mean(UNLISTED, _floats(samples, "unlisted")),
            name: perplexity(name, _floats(samples, "reference_logprob")),
        }
        return tuple(found[name] for name, _ in METRICS)
    return tuple(found.get(name) or missing.model_copy(update={"name": name, "unit": unit}) for name, unit in METRICS)


def nothing(like: Metric) -> tuple[Metric, ...]:
    """Every figure as `like` is: skipped or failed, for its reason."""
    return tuple(like.model_copy(update={"name": name, "unit": unit}) for name, unit in METRICS)


def _floats(samples: pd.DataFrame, column: str) -> Array:
    values: Array = samples[column].to_numpy(dtype=np.float64)
    return values


def _exp(value: float) -> float:
    """e to the `value`; infinite beyond what a float holds."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
