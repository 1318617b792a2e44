"""Whether a log agrees with itself: what it says came out, against the samples that it holds.

What belongs here: that comparison. What does not: reading a log.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.evaluation import Answer, EvaluationLog

_TOLERANCE = 1e-6


def check_mean(log: EvaluationLog, score: str, stated: float, where: str) -> None:
    """Raise `BadInput` when the log states another mean of `score` than its samples have.

    Packages leave samples out that failed; the mean is over those that have the score.
    """
    found = _mean(log.answers, score)
    if found is not None and not math.isclose(found, stated, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
        raise BadInput(
            f"{where} says that {score} is {stated:g}, and its samples that it is {found:g}",
            expected="results of the samples beside them",
            remedy="take the log as its package wrote it",
        )


def _mean(answers: Iterable[Answer], score: str) -> float | None:
    values = [answer.scores[score] for answer in answers if score in answer.scores]
    return math.fsum(values) / len(values) if values else None
