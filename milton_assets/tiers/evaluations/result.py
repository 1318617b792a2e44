"""A log as a tier's result: figures with intervals by our own formulas, and a row a sample to pair them by.

    result = result_of("capitals", log, (Figure("accuracy", score="match"),))

What belongs here: from answers to metrics and rows. What does not: reading logs, and what a tier is.

A case is a sample. Its value is the mean over its epochs: answers to one question hang together, so that ten epochs of
five samples tell no more of other questions than five samples do. The rows `part = sample` hold these, and are what is
paired; the rows `part = answer` hold each epoch, for people.

A sample that failed counts as the figure's `missing`, the worst there is, and stays in the denominator, where packages
leave it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from milton_assets.statistics.bootstrap import intervals_of_means
from milton_assets.statistics.shares import LEVEL, wilson
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.evaluation import EvaluationLog
from milton_assets.vocabulary.metric import Direction, Interval, Metric
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import CaseColumns, MetricSpec

SAMPLE, ANSWER = "sample", "answer"
_RESAMPLES = 2000
_SEED = 0

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A figure of an evaluation: its name, and the score that it is the mean of.

    `score` is the scorer's name in a log of inspect (`match`, `f1/recall`), or `METRIC,FILTER` of lm-eval
    (`exact_match,none`). `missing` is what a sample without one counts as.
    """

    name: str
    score: str
    unit: str = "fraction"
    better: Direction = Direction.HIGHER
    missing: float = 0.0

    @property
    def column(self) -> str:
        """The column of the samples that holds it."""
        return f"score_{self.name}"

    @property
    def spec(self) -> MetricSpec:
        """How a tier tells of it."""
        return MetricSpec(
            self.name, self.unit, self.better, CaseColumns("case_id", self.column, missing=self.missing, part=SAMPLE)
        )


def figures_of(log: EvaluationLog) -> tuple[Figure, ...]:
    """A figure a score of the log, by the score's own name. Raises `BadInput` for a log without any."""
    if not log.scores:
        why = next((answer.error for answer in log.answers if answer.error), None)
        raise BadInput(
            f"no sample of {log.task!r:.120} has a number as its score" + (f": {why:.200}" if why else ""),
            expected="scores that are numbers, or C, P, I, N, yes and no",
        )
    return tuple(Figure(score, score) for score in log.scores)


def result_of(tier: str, log: EvaluationLog, figures: Sequence[Figure]) -> TierResult:
    """The log as a result of `tier`. Raises `BadInput` for a score that the log has nowhere."""
    for figure in figures:
        if log.scores and figure.score not in log.scores:
            raise BadInput(
                f"the log of {log.task!r:.120} holds no score {figure.score!r:.120}",
                expected=f"one of {list(log.scores)[:20]}",
            )
    samples = list(dict.fromkeys(answer.sample for answer in log.answers))
    place = {sample: index for index, sample in enumerate(samples)}
    of_sample = np.array([place[answer.sample] for answer in log.answers])
    failed = {
        figure.name: np.array([figure.score not in answer.scores for answer in log.answers]) for figure in figures
    }
    by_answer = {
        figure.name: np.array([answer.scores.get(figure.score, figure.missing) for answer in log.answers], dtype=float)
        for figure in figures
    }
    counts = np.bincount(of_sample, minlength=len(samples))
    by_sample = {name: np.bincount(of_sample, values, len(samples)) / counts for name, values in by_answer.items()}
    metrics = tuple(
        _metric(figure, by_sample[figure.name], np.bincount(of_sample, failed[figure.name], len(samples)) > 0, log)
        for figure in figures
    )
    means = {figure.column: by_sample[figure.name] for figure in figures}
    each = {figure.column: [answer.scores.get(figure.score) for answer in log.answers] for figure in figures}
    asked = {answer.sample: answer.asked_sha256 for answer in log.answers}
    first = pd.DataFrame({"part": SAMPLE, "case_id": samples, "asked_sha256": [asked[s] for s in samples], **means})
    second = pd.DataFrame(
        {
            "part": ANSWER,
            "case_id": [answer.sample for answer in log.answers],
            "asked_sha256": [answer.asked_sha256 for answer in log.answers],
            "epoch": pd.array([answer.epoch for answer in log.answers], dtype="Int64"),
            "said": [answer.said for answer in log.answers],
            "error": [answer.error for answer in log.answers],
            **{name: pd.Series(values, dtype="float64") for name, values in each.items()},
        }
    )
    return TierResult(tier, metrics, pd.concat([first, second], ignore_index=True), _provenance(log))


def _provenance(log: EvaluationLog) -> dict[str, Any]:
    return {
        "plan": {"epochs": log.epochs},
        "prompts_version": f"{log.package} {log.package_version}, {log.task} {log.task_version}",
        "prompts_sha256": log.asked_sha256,
        "sampling": dict(log.how),
        "evaluation": {
            "package": log.package.value,
            "package_version": log.package_version,
            "task": log.task,
            "task_version": log.task_version,
            "dataset": log.dataset,
            "model_told": log.model,
            "created_at": log.created_at,
            "log_sha256": log.sha256,
            "log_files": dict(log.files),
        },
    }


def _metric(figure: Figure, values: Array, failed: npt.NDArray[np.bool_], log: EvaluationLog) -> Metric:
    n, errors = len(values), int(failed.sum())
    if errors == n:
        why = next((answer.error for answer in log.answers if answer.error), "no sample has the score")
        return Metric.failed(figure.name, figure.unit, f"every sample failed: {why:.200}", n=n, errors=errors)
    return Metric.measured(
        figure.name, figure.unit, float(values.mean()), n=n, errors=errors, interval=_interval(values)
    )


def _interval(values: Array) -> Interval | None:
    """Wilson's of samples that are right or wrong; else samples drawn anew, each with all of its epochs."""
    if bool(np.isin(values, (0.0, 1.0)).all()):
        return wilson(int(values.sum()), len(values))
    return intervals_of_means(
        values[:, None], resamples=_RESAMPLES, seed=_SEED, level=LEVEL, method="bootstrap_over_samples"
    )[0]
