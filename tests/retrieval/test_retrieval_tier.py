"""The tier: a good model is seen to be good, failures count, and every figure says where it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from milton_assets.tiers import retrieval
from milton_assets.tiers.retrieval import (
    METRICS,
    Method,
    RetrievalGoldens,
    RetrievalPlan,
    load_goldens,
    measure_retrieval,
)
from milton_assets.tiers.retrieval.measures import NAMES
from milton_assets.vocabulary.chat import CallErrorKind, Completion, ModelCallFailed
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.progress import Progress
from milton_assets.vocabulary.tier import TierResult
from tests.support.retrieval_models import FunctionModel, knowing, saying, write_beir, yes_with

GOLDENS = load_goldens()
PLAN = RetrievalPlan(max_queries=30, resamples=200)


def able(goldens: RetrievalGoldens = GOLDENS) -> FunctionModel:
    grade = knowing(goldens)
    return FunctionModel(lambda message: yes_with(0.1 + 0.8 * grade(message) + len(message) * 1e-6))


@pytest.fixture(scope="module")
def good() -> TierResult:
    return measure_retrieval(able(), GOLDENS, PLAN)


def value(result: TierResult, name: str) -> float:
    found = result.metric(name).value
    assert found is not None
    return found


def test_a_model_that_knows_the_grades_reaches_the_oracle(good: TierResult) -> None:
    assert value(good, "nDCG@10") == pytest.approx(value(good, "oracle:nDCG@10"))
    assert value(good, "gain:nDCG@10") > 0


def test_a_model_that_is_wrong_on_purpose_ends_below_chance() -> None:
    grade = knowing(GOLDENS)
    result = measure_retrieval(FunctionModel(lambda m: yes_with(0.9 - 0.8 * grade(m) - len(m) * 1e-6)), GOLDENS, PLAN)
    assert value(result, "nDCG@10") < value(result, "random:nDCG@10")
    assert value(result, "gain:nDCG@10") < 0


def test_the_metrics_are_those_announced_with_their_units(good: TierResult) -> None:
    assert tuple((metric.name, metric.unit) for metric in good.metrics) == METRICS
    assert good.tier == "retrieval"


def test_the_headline_has_an_interval_over_the_answerable_queries(good: TierResult) -> None:
    headline = good.metric("nDCG@10")
    assert headline.interval is not None
    assert headline.interval.low <= value(good, "nDCG@10") <= headline.interval.high
    assert headline.n == sum(good.samples["answerable"])


def test_the_gain_is_the_difference_from_bm25(good: TierResult) -> None:
    for name in NAMES:
        assert value(good, f"gain:{name}") == pytest.approx(value(good, name) - value(good, f"bm25:{name}"))
        assert value(good, name) <= value(good, f"oracle:{name}") + 1e-12


def test_there_is_a_row_a_query_with_its_ranking(good: TierResult) -> None:
    assert len(good.samples) == 30
    for row in good.samples.to_dict("records"):
        assert len(row["ranking"]) == len(row["scores"]) == len(row["shown"])
        assert sorted(row["ranking"]) == sorted(row["bm25_ranking"]) == sorted(row["shown"])
        assert row["scores"] == sorted(row["scores"], reverse=True)


def test_the_mean_of_a_column_is_the_metric(good: TierResult) -> None:
    for name in (*NAMES, "bm25:nDCG@10"):
        assert good.samples[name].mean() == pytest.approx(value(good, name))


def test_an_unanswerable_query_is_asked_but_has_no_ndcg(good: TierResult) -> None:
    unanswerable = good.samples[~good.samples["answerable"]]
    assert len(unanswerable) > 0
    assert unanswerable["nDCG@10"].isna().all()
    assert (unanswerable["calls"] > 0).all()


def test_a_model_that_sees_what_cannot_be_answered_says_so(good: TierResult) -> None:
    assert value(good, "answerability:AUROC") == 1.0


def test_the_table_survives_the_way_to_parquet_and_back(good: TierResult) -> None:
    back = TierResult.from_table(good.to_table("v1", None))
    assert back.metrics == good.metrics
    assert back.samples["query_id"].tolist() == good.samples["query_id"].tolist()
    assert list(back.samples["ranking"].iloc[0]) == good.samples["ranking"].iloc[0]


def test_the_provenance_says_with_what_it_was_measured(good: TierResult) -> None:
    told = good.provenance
    assert told["goldens"] == GOLDENS.digests
    assert told["dataset_version"] == GOLDENS.version
    assert told["plan"]["max_queries"] == 30
    assert told["code_version"] == retrieval.code_version()
    assert told["queries"] == good.samples["query_id"].tolist()
    json.dumps(dict(told), allow_nan=False)


def test_two_measurements_of_one_model_are_equal(good: TierResult) -> None:
    again = measure_retrieval(able(), GOLDENS, PLAN.model_copy(update={"concurrency": 4}))
    assert again.metrics == good.metrics
    assert again.samples.equals(good.samples)


def test_progress_is_told_query_by_query() -> None:
    steps: list[Progress] = []
    measure_retrieval(able(), GOLDENS, PLAN.model_copy(update={"max_queries": 5}), on_progress=steps.append)
    assert [(step.stage, step.done, step.total) for step in steps] == [("retrieval", n, 5) for n in range(1, 6)]


def test_a_failed_pair_costs_and_stays_in_the_denominator(good: TierResult) -> None:
    grade = knowing(GOLDENS)

    def ask(message: str) -> Completion:
        if grade(message) == 1:
            raise ModelCallFailed(CallErrorKind.HTTP_STATUS, "500")
        return yes_with(0.1 + 0.8 * grade(message) + len(message) * 1e-6)

    result = measure_retrieval(FunctionModel(ask), GOLDENS, PLAN)
    headline, rate = result.metric("nDCG@10"), result.metric("call_failure_rate")
    assert headline.value is not None
    assert headline.value < value(good, "nDCG@10") / 2
    assert headline.n == good.metric("nDCG@10").n
    assert headline.errors > 0
    assert rate.errors == result.provenance["failures"]["http_status"] > 0


def test_a_model_that_never_gave_a_judgement_has_errors_and_no_figures() -> None:
    result = measure_retrieval(FunctionModel(lambda _: saying("Yes")), GOLDENS, PLAN)
    for name in (*NAMES, "gain:nDCG@10", "answerability:AUROC"):
        metric = result.metric(name)
        assert metric.status is Status.ERROR
        assert "calls failed: no_logprobs" in (metric.why or "")
    assert value(result, "bm25:nDCG@10") > 0
    assert value(result, "call_failure_rate") == 1.0


def test_a_query_of_which_every_call_failed_counts_as_the_wrong_way_round() -> None:
    grade = knowing(GOLDENS)

    def ask(message: str) -> Completion:
        if grade(message) == 0:
            raise ModelCallFailed(CallErrorKind.TIMEOUT, "slow")
        return yes_with(0.9)

    auroc = measure_retrieval(FunctionModel(ask), GOLDENS, PLAN).metric("answerability:AUROC")
    assert auroc.value == 0.0
    assert auroc.errors > 0


def test_listwise_fills_the_same_metrics_and_skips_what_needs_probabilities() -> None:
    result = measure_retrieval(
        FunctionModel(lambda _: saying("[1]")),
        GOLDENS,
        PLAN.model_copy(update={"method": Method.LISTWISE}),
    )
    assert tuple((metric.name, metric.unit) for metric in result.metrics) == METRICS
    assert result.metric("answerability:AUROC").status is Status.SKIPPED
    assert result.metric("nDCG@10").status is Status.ERROR


def test_without_unanswerable_queries_their_figure_is_skipped(tmp_path: Path) -> None:
    goldens = load_goldens(
        write_beir(tmp_path, {"d1": "lamp oil", "d2": "lamp"}, {"q1": "lamp?"}, {"test": {"q1": {"d1": 1}}})
    )
    result = measure_retrieval(FunctionModel(lambda message: yes_with(0.4 + len(message) * 1e-6)), goldens, PLAN)
    assert result.metric("answerability:AUROC").status is Status.SKIPPED
    assert result.metric("nDCG@10").status is Status.OK
    assert result.metric("nDCG@10").interval is None


def test_with_nothing_but_unanswerable_queries_the_measures_are_errors(tmp_path: Path) -> None:
    goldens = load_goldens(
        write_beir(tmp_path, {"d1": "lamp", "d2": "oil"}, {"q1": "lamp?"}, {"test": {"q1": {"d1": 0}}})
    )
    result = measure_retrieval(FunctionModel(lambda message: yes_with(0.4 + len(message) * 1e-6)), goldens, PLAN)
    assert result.metric("nDCG@10").status is Status.ERROR
    assert "no answerable query" in (result.metric("nDCG@10").why or "")


def test_when_bm25_finds_nothing_nothing_is_asked_and_that_is_said(tmp_path: Path) -> None:
    goldens = load_goldens(write_beir(tmp_path, {"d1": "lamp"}, {"q1": "zebra?"}, {"test": {"q1": {"d1": 1}}}))
    model = FunctionModel(lambda message: yes_with(0.4 + len(message) * 1e-6))
    result = measure_retrieval(model, goldens, PLAN)
    assert model.asked == []
    assert value(result, "nDCG@10") == value(result, "oracle:nDCG@10") == 0.0
    assert result.metric("call_failure_rate").status is Status.ERROR


def test_an_unknown_split_is_refused_before_anything_is_asked() -> None:
    model = able()
    with pytest.raises(BadInput, match="no split"):
        measure_retrieval(model, GOLDENS, RetrievalPlan(split="train"))
    assert model.asked == []


def test_a_bug_in_the_model_code_ends_the_measurement_and_its_threads() -> None:
    import threading

    def broken(_: str) -> Completion:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure_retrieval(FunctionModel(broken), GOLDENS, PLAN.model_copy(update={"concurrency": 4}))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("retrieval")]


def test_the_code_version_is_a_digest_and_stays_the_same() -> None:
    assert retrieval.code_version() == retrieval.code_version()
    assert len(retrieval.code_version()) == 64


@pytest.mark.parametrize(
    "wrong", [{"pool_size": 0}, {"concurrency": 0}, {"window": 5, "step": 5}, {"top_logprobs": 1}, {"unknown": 1}]
)
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        RetrievalPlan.model_validate(wrong)
