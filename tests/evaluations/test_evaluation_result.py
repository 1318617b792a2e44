"""A log's figures: what counts, how sure it is, and how two candidates' are paired."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.cases import line_up
from milton_assets.selection.policy import MetricRef
from milton_assets.statistics.shares import wilson
from milton_assets.tiers.evaluations.result import Figure, figures_of, result_of
from milton_assets.tiers.evaluations.tier import evaluation_tier
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.evaluation import Answer, Evaluation, EvaluationLog, Package
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Tiers

ACCURACY = Figure("accuracy", score="match")
SPEC = evaluation_tier(
    name="capitals", about="x", evaluation=Evaluation(Package.INSPECT, "capitals.py@capitals"), figures=(ACCURACY,)
)


def answer(sample: str, score: float | None, epoch: int = 1) -> Answer:
    scores = {} if score is None else {"match": score}
    return Answer(sample, epoch, "0" * 64, scores, error=None if scores else "it was not scored")


def a_log(answers: Sequence[Answer], **changed: str) -> EvaluationLog:
    told = {"package_version": "0.3", "task_version": "0", "model": "m", "created_at": "now", **changed}
    return EvaluationLog(
        package=Package.INSPECT, task="capitals", answers=tuple(answers), files={"log.eval": "1" * 64}, **told
    )


def test_a_share_has_the_wilson_interval() -> None:
    log = a_log([answer(f"s{i}", float(i < 7)) for i in range(10)])
    metric = result_of("capitals", log, [ACCURACY]).metric("accuracy")
    assert (metric.value, metric.n, metric.errors, metric.interval) == (0.7, 10, 0, wilson(7, 10))


def test_a_sample_that_failed_stays_in_the_denominator_as_the_worst_there_is() -> None:
    log = a_log([answer("a", 1.0), answer("b", 1.0), answer("c", 1.0), answer("d", None)])
    metric = result_of("capitals", log, [ACCURACY]).metric("accuracy")
    assert (metric.value, metric.n, metric.errors) == (0.75, 4, 1)


def test_when_every_sample_failed_there_is_no_figure_but_the_reason() -> None:
    metric = result_of("capitals", a_log([answer("a", None), answer("b", None)]), [ACCURACY]).metric("accuracy")
    assert metric.status is Status.ERROR
    assert metric.why == "every sample failed: it was not scored"


def test_epochs_of_a_sample_are_one_case_so_that_asking_again_makes_nothing_surer() -> None:
    once = a_log([answer(f"s{i}", float(i < 3)) for i in range(6)])
    often = a_log([answer(f"s{i}", float(i < 3), epoch) for i in range(6) for epoch in (1, 2, 3, 4, 5)])
    one, many = (result_of("capitals", log, [ACCURACY]).metric("accuracy") for log in (once, often))
    assert (many.value, many.n, many.interval) == (one.value, one.n, one.interval)


def test_a_sample_right_in_some_epochs_counts_in_part() -> None:
    log = a_log([answer("a", 1.0, 1), answer("a", 0.0, 2), answer("b", 1.0, 1), answer("b", 1.0, 2)])
    result = result_of("capitals", log, [ACCURACY])
    metric = result.metric("accuracy")
    assert metric.value == 0.75
    assert metric.interval is not None and metric.interval.method == "bootstrap_over_samples"
    answers = result.samples[result.samples["part"] == "answer"]
    assert answers["epoch"].tolist() == [1, 2, 1, 2]


def test_it_survives_its_table() -> None:
    result = result_of("capitals", a_log([answer("a", 1.0), answer("b", None)]), [ACCURACY])
    back = TierResult.from_table(result.to_table("v1", "2" * 64))
    assert back.metrics == result.metrics
    assert back.provenance == result.provenance
    assert back.samples["score_accuracy"].tolist()[:2] == [1.0, 0.0]


def test_candidates_are_paired_by_sample_whatever_their_order() -> None:
    one = result_of("capitals", a_log([answer("a", 1.0), answer("b", 0.0)]), [ACCURACY])
    other = result_of("capitals", a_log([answer("b", None), answer("a", 1.0)]), [ACCURACY])
    cases = line_up(
        [Candidate("one", {"capitals": one}), Candidate("other", {"capitals": other})],
        MetricRef(tier="capitals", metric="accuracy"),
        Tiers([SPEC]),
    )
    assert cases.paired.all()
    assert cases.values.tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_another_release_of_the_package_is_another_way_and_is_not_paired() -> None:
    one = result_of("capitals", a_log([answer("a", 1.0), answer("b", 0.0)]), [ACCURACY])
    other = result_of("capitals", a_log([answer("a", 1.0), answer("b", 0.0)], package_version="0.4"), [ACCURACY])
    cases = line_up(
        [Candidate("one", {"capitals": one}), Candidate("other", {"capitals": other})],
        MetricRef(tier="capitals", metric="accuracy"),
        Tiers([SPEC]),
    )
    assert cases.paired.tolist() == [True, False]
    assert "inspect_ai 0.4" in cases.why[1]


def test_without_figures_named_every_score_is_one() -> None:
    log = a_log([Answer("a", 1, "0" * 64, {"f1/recall": 0.5, "f1/precision": 1.0})])
    assert [figure.name for figure in figures_of(log)] == ["f1/recall", "f1/precision"]
    with pytest.raises(BadInput, match="it was not scored"):
        figures_of(a_log([answer("a", None)]))


def test_a_score_that_the_log_lacks_is_named_with_those_it_has() -> None:
    with pytest.raises(BadInput, match=r"no score 'exact'.*'match'"):
        result_of("capitals", a_log([answer("a", 1.0)]), [Figure("exact", score="exact")])


@pytest.mark.parametrize(
    ("task", "said"),
    [("--log-dir=/etc", "names no task"), ("", "names no task"), ("a\nb", "names no task")],
    ids=["option", "empty", "line"],
)
def test_a_task_that_would_be_an_option_of_the_package_is_refused(task: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Evaluation(Package.INSPECT, task)


@pytest.mark.parametrize("line", ["inspect_evals", "--index-url=x==1", "a==1 b==2"], ids=["unpinned", "option", "two"])
def test_a_further_package_has_to_be_pinned(line: str) -> None:
    with pytest.raises(BadInput, match="no pinned requirement"):
        Evaluation(Package.INSPECT, "capitals.py", requires=(line,))


def test_a_tier_of_a_file_says_which_of_its_tasks_it_is() -> None:
    with pytest.raises(BadInput, match=r"FILE\.py@TASK"):
        evaluation_tier(
            name="capitals", about="x", evaluation=Evaluation(Package.INSPECT, "capitals.py"), figures=(ACCURACY,)
        )
