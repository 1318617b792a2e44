"""Whether a log agrees with itself: what it says came out, against the samples that it holds.

What belongs here: that comparison. What does not: reading a log.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from milton_assets.vocabulary.errors import BadInput

_TOLERANCE = 1e-6


class Scored(NamedTuple):
    """What a log says of one answer to a sample, whatever is made of it: its scores, and whether it failed."""

    sample: str
    scores: Mapping[str, float]
    failed: bool = False


def check_mean(scored: Sequence[Scored], score: str, stated: float, where: str) -> None:
    """Raise `BadInput` when the log states another mean of `score` than its samples have.

    Packages leave samples out that have no score. They take the mean over samples of the mean over a sample's answers,
    or over all answers, which differ where one of several answers failed; and they may have scored what failed.
    """
    whole = [one for one in scored if score in one.scores]
    found = [mean(some, score) for some in (whole, [one for one in whole if not one.failed]) for mean in _MEANS if some]
    if found and not any(math.isclose(one, stated, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE) for one in found):
        raise BadInput(
            f"{where} says that {score} is {stated:g}, and its samples that it is {found[0]:g}",
            expected="results of the samples beside them",
            remedy="take the log as its package wrote it",
        )


def check_count(held: int, stated: int | None, what: str, where: str) -> None:
    """Raise `BadInput` when the log states that there were more answers than it holds."""
    if stated is not None and held < stated:
        raise BadInput(
            f"{where} holds {held} of the {stated} {what} that it says there were",
            expected="every one of them: those that are missing may be those that were wrong",
            remedy="let the evaluation run to its end, and take the log as its package wrote it",
        )


def _over_samples(scored: Iterable[Scored], score: str) -> float:
    by_sample: dict[str, list[float]] = {}
    for one in scored:
        by_sample.setdefault(one.sample, []).append(one.scores[score])
    return math.fsum(math.fsum(each) / len(each) for each in by_sample.values()) / len(by_sample)


def _over_answers(scored: Iterable[Scored], score: str) -> float:
    values = [one.scores[score] for one in scored]
    return math.fsum(values) / len(values)


_MEANS = (_over_samples, _over_answers)
