"""The reasoning tier as a whole: metrics, rows, denominators, concurrency."""

from __future__ import annotations

import itertools
import json
import threading
import time

import pytest

from milton_assets.tiers.reasoning import METRICS, ReasoningPlan, code_version, load_goldens, measure_reasoning
from milton_assets.tiers.reasoning.cases import Kind, Split
from milton_assets.tiers.reasoning.goldens import ReasoningGoldens
from milton_assets.vocabulary.chat import CallErrorKind, ModelCallFailed
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.progress import Progress
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.tier import TierResult
from resources.servers.client import OpenAIChatModel
from tests.support.reasoning_player import Player, Prompt, failing_at, handler, honest
from tests.support.scripted_server import Status as HttpStatus
from tests.support.scripted_server import answer, scripted_server

GOLDENS = load_goldens()
PLAN = ReasoningPlan(cases_per_kind=3, seeded_per_kind=2, questions=1)
CHOSEN = GOLDENS.choose(Split.TEST, 3)


def value(result: TierResult, name: str) -> float | None:
    return result.metric(name).value


def test_every_metric_is_reported_under_its_name_and_unit() -> None:
    result = measure_reasoning(honest(CHOSEN), GOLDENS, PLAN)
    assert tuple((m.name, m.unit) for m in result.metrics) == METRICS
    assert result.tier == "reasoning"


def test_a_model_that_mends_its_drafts_is_credited_for_it() -> None:
    result = measure_reasoning(honest(CHOSEN, wrong_every=3), GOLDENS, PLAN)
    assert value(result, "baseline_pass_rate") == pytest.approx(12 / 18)
    assert value(result, "cove_pass_rate") == 1.0
    assert [value(result, f"cove_{cell}") for cell in ("kept", "fixed", "broken", "missed")] == [12, 6, 0, 0]
    assert value(result, "cove_gain") == pytest.approx(6 / 18)
    assert value(result, "detection_precision") == value(result, "detection_recall") == 1.0
    assert value(result, "detection_informedness") == 1.0
    assert value(result, "verified_rate") == 1.0


def test_a_model_that_spoils_its_drafts_is_charged_for_it() -> None:
    player = honest(CHOSEN, wrong_every=100)
    player.cross_check = lambda prompt: "INCONSISTENT"
    player.revise = lambda prompt: "I changed my mind."
    result = measure_reasoning(player, GOLDENS, PLAN)
    assert [value(result, f"cove_{cell}") for cell in ("kept", "fixed", "broken", "missed")] == [0, 0, 17, 1]
    assert value(result, "cove_pass_rate") == 0.0
    assert value(result, "cove_gain") == pytest.approx(-17 / 18)


def test_the_pass_rate_has_a_wilson_interval() -> None:
    metric = measure_reasoning(honest(CHOSEN), GOLDENS, PLAN).metric("cove_pass_rate")
    assert metric.interval is not None and metric.interval.method == "wilson"
    assert metric.interval.low == pytest.approx(0.824, abs=0.001) and metric.interval.high == 1.0


def test_accuracy_is_reported_per_kind_and_skipped_where_there_is_none() -> None:
    result = measure_reasoning(honest(CHOSEN), GOLDENS, PLAN)
    for kind in Kind:
        metric = result.metric(f"accuracy.{kind}")
        if kind is Kind.OTHER:
            assert metric.status is Status.SKIPPED and metric.why == "the set has no case of this kind"
        else:
            assert (metric.value, metric.n) == (1.0, 3)


def test_a_failed_call_is_its_cases_row_and_stays_in_every_denominator() -> None:
    player = honest(CHOSEN, wrong_every=100)
    honestly = player.answer

    def sometimes(prompt: Prompt) -> str:
        if prompt.question == CHOSEN[4].question:
            raise ModelCallFailed(CallErrorKind.HTTP_STATUS, "status 500")
        return honestly(prompt)

    player.answer = sometimes
    result = measure_reasoning(player, GOLDENS, PLAN)
    metric = result.metric("cove_pass_rate")
    assert (metric.n, metric.errors, metric.value) == (18, 1, pytest.approx(17 / 18))
    row = result.samples[result.samples.case_id == CHOSEN[4].id].iloc[0]
    assert (row.error_step, row.error_kind, row.final_label, row.cell) == (
        "baseline", "http_status", "failed", "missed",
    )  # fmt: skip


def test_a_server_that_answers_no_call_says_nothing_about_the_model() -> None:
    error = ModelCallFailed(CallErrorKind.REFUSED, "nobody listens")
    dead = failing_at("answer", error, failing_at("plan", error, Player()))
    result = measure_reasoning(dead, GOLDENS, PLAN)
    metric = result.metric("cove_pass_rate")
    assert (metric.status, metric.value, metric.n, metric.errors) == (Status.ERROR, None, 18, 18)
    assert metric.why == "all 42 calls failed: refused 42"
    assert {m.status for m in result.metrics} == {Status.ERROR}
    assert len(result.samples) == 18 + 24


def test_a_server_that_answers_a_single_call_leaves_the_others_in_the_denominator() -> None:
    error = ModelCallFailed(CallErrorKind.REFUSED, "nobody listens")
    dying = failing_at("answer", error, failing_at("plan", error, Player()))
    fail = dying.answer
    dying.answer = lambda prompt: "Au." if prompt.question == CHOSEN[0].question else fail(prompt)
    metric = measure_reasoning(dying, GOLDENS, PLAN).metric("cove_pass_rate")
    assert (metric.status, metric.value, metric.n, metric.errors) == (Status.OK, 0.0, 18, 18)


def test_every_case_has_a_row_with_every_steps_text() -> None:
    result = measure_reasoning(honest(CHOSEN), GOLDENS, PLAN)
    rows = result.samples[result.samples.part == "cove"]
    assert list(rows.case_id) == [case.id for case in CHOSEN]
    row = rows.iloc[0]
    assert [call["step"] for call in json.loads(row.calls)] == ["baseline", "plan", "answer", "cross_check", "revise"]
    check = json.loads(row.checks)[0]
    assert set(check) == {"question", "answer", "answer_label", "verdict_text", "verdict", "closed"}
    assert row.baseline and row.plan and row.final and row.gold and row.question


def test_seeded_drafts_have_rows_of_their_own() -> None:
    result = measure_reasoning(honest(CHOSEN), GOLDENS, PLAN)
    rows = result.samples[result.samples.part == "detection"]
    assert len(rows) == 2 * 2 * 6
    assert set(rows[rows.seeded_fault == True].counts_as_flagged) == {True}  # noqa: E712
    assert result.samples.case_id.is_unique


def test_the_result_survives_its_parquet_table() -> None:
    result = measure_reasoning(honest(CHOSEN), GOLDENS, PLAN)
    again = TierResult.from_table(result.to_table("v1", "0" * 64))
    assert again.metrics == result.metrics
    assert list(again.samples.final) == list(result.samples.final)
    assert again.provenance == result.provenance


def test_provenance_names_goldens_plan_and_definitions() -> None:
    provenance = measure_reasoning(honest(CHOSEN), GOLDENS, PLAN).provenance
    assert provenance["goldens"] == GOLDENS.digests
    assert provenance["goldens_version"] == GOLDENS.version
    assert provenance["code_version"] == code_version()
    assert ReasoningPlan.model_validate(provenance["plan"]) == PLAN
    assert provenance["judge"] is None


def test_without_seeded_faults_detection_is_skipped_and_says_why() -> None:
    result = measure_reasoning(honest(CHOSEN), GOLDENS, PLAN.model_copy(update={"seeded_per_kind": 0}))
    metric = result.metric("detection_recall")
    assert (metric.status, metric.why) == (Status.SKIPPED, "the plan asks for no seeded faults")
    assert set(result.samples.part) == {"cove"}


def test_a_set_without_wrong_answers_skips_detection_and_says_why() -> None:
    bare = ReasoningGoldens(tuple(c.model_copy(update={"wrong": ()}) for c in CHOSEN), "1", {})
    metric = measure_reasoning(honest(CHOSEN, wrong_every=100), GOLDENS, PLAN).metric("detection_recall")
    assert metric.status is Status.OK
    player = honest(CHOSEN, wrong_every=100)
    player.answer = lambda prompt: "No idea."
    metric = measure_reasoning(player, bare, PLAN).metric("detection_recall")
    assert (metric.status, metric.why) == (Status.SKIPPED, "no chosen case has a wrong answer")


def test_a_plan_that_chooses_nothing_is_refused() -> None:
    only_dev = ReasoningGoldens(GOLDENS.choose(Split.DEV), "1", {})
    with pytest.raises(BadInput, match="no case in split test"):
        measure_reasoning(Player(), only_dev, PLAN)


def test_the_smoke_plan_asks_at_least_30_cases_and_says_so() -> None:
    steps: list[Progress] = []
    plan = ReasoningPlan.smoke()
    result = measure_reasoning(honest(GOLDENS.cases), GOLDENS, plan, on_progress=steps.append)
    assert result.metric("cove_pass_rate").n == 30
    seeded = 6 * 2 * 3
    assert [step.done for step in steps] == list(range(30 * 5 + seeded + 1))
    assert {step.total for step in steps} == {150 + seeded}
    assert steps[1].note == "baseline" and steps[-1].note == "revise"
    assert result.metric("detection_informedness").value == 1.0


def test_the_pass_rate_says_what_the_baseline_alone_has() -> None:
    result = measure_reasoning(honest(CHOSEN), GOLDENS, PLAN)
    assert result.metric("baseline_pass_rate").value == pytest.approx(2 / 3, abs=0.01)
    assert (result.metric("cove_pass_rate").why or "").startswith("without verification 0.66")
    assert result.metric("cove_gain").valid


def test_verification_that_never_flags_a_seeded_fault_is_marked_as_without_effect() -> None:
    player = honest(CHOSEN)
    player.cross_check = lambda prompt: "CONSISTENT"
    result = measure_reasoning(player, GOLDENS, PLAN)
    marked = {m.name for m in result.metrics if not m.valid}
    assert marked == {"cove_gain", "cove_kept", "cove_fixed", "cove_broken", "cove_missed"}
    assert "without effect: none of 12 seeded faults" in (result.metric("cove_gain").why or "")
    assert result.metric("cove_pass_rate").valid, "the final answers are right or wrong all the same"
    assert "without effect" in (result.metric("cove_pass_rate").why or "")


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        ("CONSISTENT", "none of 12 seeded faults was flagged, all {n} verdicts were consistent"),
        ("INCONSISTENT", "all {n} verdicts were inconsistent"),
    ],
    ids=["says-yes-to-everything", "says-no-to-everything"],
)
def test_verdict_diversity_is_reported_and_one_verdict_on_everything_marks_the_figures_as_without_effect(
    verdict: str, why: str
) -> None:
    player = honest(CHOSEN)
    player.cross_check = lambda prompt: verdict
    result = measure_reasoning(player, GOLDENS, PLAN)
    share = result.metric(f"verdict_share.{verdict.lower()}")
    assert share.value == 1.0
    said = f"verification is without effect: {why.format(n=share.n)}"
    marked = {m.name: m.why for m in result.metrics if not m.valid}
    assert marked.keys() >= {"cove_gain", "cove_kept", "cove_fixed", "cove_broken", "cove_missed"}
    assert set(marked.values()) == {said}
    assert (result.metric("cove_pass_rate").why or "").endswith(said)


def test_verdict_diversity_without_seeded_faults_is_said_and_marks_nothing() -> None:
    """Who drafts everything rightly may well find all of it consistent."""
    player = honest(CHOSEN)
    player.cross_check = lambda prompt: "CONSISTENT"
    result = measure_reasoning(player, GOLDENS, PLAN.model_copy(update={"seeded_per_kind": 0}))
    assert (result.metric("cove_pass_rate").why or "").endswith("verdicts were consistent")
    assert all(metric.valid for metric in result.metrics)


def test_the_share_of_each_verdict_is_told() -> None:
    result = measure_reasoning(honest(CHOSEN), GOLDENS, PLAN)
    shares = {m.name.removeprefix("verdict_share."): m.value for m in result.metrics if "verdict_share" in m.name}
    assert sum(value or 0 for value in shares.values()) == pytest.approx(1.0)
    assert (shares["consistent"] or 0) > (shares["inconsistent"] or 0) > 0 == shares["unparseable"]


def test_what_is_thought_aloud_is_no_answer_and_its_tokens_are_counted_apart() -> None:
    def player() -> Player:
        known = honest(CHOSEN, wrong_every=100)
        answering = known.answer
        known.answer = lambda prompt: f"<think>Is it Nice, or is it Lille?</think>\n\n{answering(prompt)}"
        return known

    plan = PLAN.model_copy(update={"seeded_per_kind": 0})
    result = measure_reasoning(player(), GOLDENS, plan)
    assert result.metric("cove_pass_rate").value == 1.0
    rows = result.samples
    assert rows.thought_aloud.all() and not rows.baseline.str.contains("think").any()
    assert ((rows.thinking_tokens > 0) & (rows.thinking_tokens < rows.completion_tokens)).all()
    assert not measure_reasoning(honest(CHOSEN), GOLDENS, plan).samples.thought_aloud.any()


def test_cases_are_worked_on_at_the_plans_concurrency_and_give_the_same_result() -> None:
    gate, entered = threading.Barrier(4, timeout=20), itertools.count()
    player = honest(CHOSEN)
    honestly = player.answer

    def meeting(prompt: Prompt) -> str:
        if next(entered) < 12:
            gate.wait()
        return honestly(prompt)

    player.answer = meeting
    together = measure_reasoning(player, GOLDENS, PLAN.model_copy(update={"concurrency": 4}))
    alone = measure_reasoning(honest(CHOSEN), GOLDENS, PLAN)
    assert list(together.samples.final) == list(alone.samples.final)
    assert value(together, "cove_pass_rate") == value(alone, "cove_pass_rate")


def test_the_earliest_step_goes_first_so_that_prompts_with_one_beginning_follow_each_other() -> None:
    player = honest(CHOSEN)
    measure_reasoning(player, GOLDENS, PLAN.model_copy(update={"seeded_per_kind": 0}))
    steps = [prompt.step for prompt, _ in player.seen]
    assert [step for step, _ in itertools.groupby(steps)] == ["answer", "plan", "answer", "cross_check", "revise"]


def test_no_slot_waits_for_the_last_case_of_a_step() -> None:
    """One case's baseline hangs until another case's plan has been asked for."""
    planned = threading.Event()
    player = honest(CHOSEN)
    honestly, planning = player.answer, player.plan

    def hang_first(prompt: Prompt) -> str:
        if prompt.question == CHOSEN[0].question:
            assert planned.wait(20)
        return honestly(prompt)

    def plan(prompt: Prompt) -> str:
        planned.set()
        return planning(prompt)

    player.answer, player.plan = hang_first, plan
    result = measure_reasoning(player, GOLDENS, PLAN.model_copy(update={"concurrency": 2}))
    assert value(result, "cove_pass_rate") == 1.0


def test_an_error_of_ours_stops_the_run_and_is_raised() -> None:
    calls: list[str] = []

    def broken(prompt: Prompt) -> str:
        calls.append(prompt.question)
        time.sleep(0.01)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure_reasoning(Player(answer=broken), GOLDENS, ReasoningPlan(concurrency=2))
    assert len(calls) < 20


def test_over_http_the_same_model_gives_the_same_answers() -> None:
    in_process = measure_reasoning(honest(CHOSEN), GOLDENS, PLAN)
    with (
        scripted_server(handler(honest(CHOSEN))) as server,
        OpenAIChatModel(Endpoint(server.base_url, "scripted"), timeout_s=20) as model,
    ):
        over_http = measure_reasoning(model, GOLDENS, PLAN.model_copy(update={"concurrency": 4}))
    assert list(over_http.samples.final) == list(in_process.samples.final)
    assert all(request["temperature"] == 0 and request["seed"] == 0 for request in server.requests)


def test_a_server_that_returns_500_is_counted_by_kind() -> None:
    with (
        scripted_server(HttpStatus(500)) as server,
        OpenAIChatModel(Endpoint(server.base_url, "scripted"), timeout_s=20) as model,
    ):
        result = measure_reasoning(model, GOLDENS, PLAN)
    rows = result.samples[result.samples.part == "cove"]
    assert set(rows.error_kind) == {"http_status"} and set(rows.final_right) == {False}


def test_an_answer_that_never_ends_is_truncated_and_wrong() -> None:
    with (
        scripted_server(answer("Au " * 60, finish_reason="length")) as server,
        OpenAIChatModel(Endpoint(server.base_url, "scripted"), timeout_s=20) as model,
    ):
        result = measure_reasoning(model, GOLDENS, PLAN)
    rows = result.samples[result.samples.part == "cove"]
    assert set(rows.final_label) == {"truncated"}
    assert value(result, "cove_pass_rate") == 0.0
