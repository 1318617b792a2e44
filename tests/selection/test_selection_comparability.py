"""What tables say of how they were made: other goldens are no evidence, other ways of measuring are said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from milton_assets.selection import card
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision, GateAnswer, Standing, Verdict
from milton_assets.selection.policy_file import load_policy
from tests.support.selection import RUN_ID, candidate, manifest
from tests.support.tiers import TIERS

OLD, NEW = "1" * 64, "2" * 64


def told(one: Candidate, tier: str, **provenance: Any) -> Candidate:
    """The candidate, whose table of that tier states that of itself."""
    result = one.tiers[tier]
    changed = replace(result, provenance={**result.provenance, **provenance})
    return replace(one, tiers={**one.tiers, tier: changed})


def on_cases(version: str, digest: str, right: int = 95, **provenance: Any) -> Candidate:
    one = candidate(
        version,
        (100.0, 98.0, 102.0),
        (50.0, 49.0, 51.0),
        (right / 100, right / 100 - 0.04, right / 100 + 0.02),
        (0.6, 0.55, 0.65),
        passed=[True] * right + [False] * (100 - right),
        ndcg_by_query=[0.6] * 10,
    )
    return told(one, "reasoning", goldens={"cases.jsonl": digest}, **provenance)


def decided(*candidates: Candidate, policy: str = "anchored", incumbent: str | None = None) -> Decision:
    chosen = load_policy(policy)
    pinned = manifest(candidates, chosen).model_copy(update={"goldens": {"reasoning_cases": NEW}})
    return decide(
        run_id=RUN_ID, candidates=candidates, policy=chosen, manifest=pinned, incumbent=incumbent, tiers=TIERS
    )


NO_FIGURE_RESTS_ON = {
    "reasoning_dataset",
    "reasoning_judge_pairs",
    "retrieval_dataset",
    "retrieval_published",
    "retrieval_qrels_dev",
}


def test_every_golden_is_scored_but_descriptions_and_what_no_figure_rests_on() -> None:
    goldens = [golden for spec in TIERS.values() for golden in spec.goldens]
    assert {golden.name for golden in goldens if not golden.scored} == NO_FIGURE_RESTS_ON


@pytest.mark.parametrize(("stated", "stands"), [(NEW, True), (OLD, False)], ids=["same", "another"])
def test_a_file_of_ones_own_is_compared_under_its_sets_name(stated: str, stands: bool) -> None:
    one = told(on_cases("a", NEW), "reasoning", goldens={"mine/cases.jsonl": stated})
    pinned = manifest([one]).model_copy(update={"goldens": {"reasoning/mine/cases.jsonl": NEW}})
    policy = load_policy("anchored")
    decision = decide(run_id=RUN_ID, candidates=[one], policy=policy, manifest=pinned, incumbent=None, tiers=TIERS)
    assert (decision.winner == "a") is stands
    named = f"reasoning was measured on goldens of one's own: mine/cases.jsonl ({NEW[:12]})"
    assert named in decision.notes
    assert named in card.to_markdown(decision, TIERS)


def test_figures_on_other_goldens_than_the_pinned_are_no_evidence() -> None:
    decision = decided(on_cases("old", OLD, right=99), on_cases("new", NEW))
    report = decision.candidate("old")
    assert (decision.winner, report.standing) == ("new", Standing.NO_EVIDENCE)
    assert report.gates[0].answer is GateAnswer.INCONCLUSIVE
    assert (
        f"measured on other goldens: cases.jsonl was {OLD[:12]}, pinned is {NEW[:12]}; benchmark old again"
        in report.why
    )
    assert any("old could not be judged and might have been better" in note for note in decision.notes)


def test_when_everybody_was_measured_on_other_goldens_there_is_no_verdict() -> None:
    decision = decided(on_cases("a", OLD), on_cases("b", OLD))
    assert decision.verdict is Verdict.NO_VERDICT
    assert "benchmark a again" in decision.reasons[1]


def test_a_table_that_does_not_state_its_goldens_is_no_evidence_either() -> None:
    assert "cases.jsonl was none stated" in decided(candidate("a")).candidate("a").why


@pytest.mark.parametrize(
    ("mine", "theirs", "says"),
    [
        (
            {"plan": {"cases_per_kind": 5}},
            {"plan": {"cases_per_kind": None}},
            "plan.cases_per_kind: none stated against 5",
        ),
        ({"prompts_version": "1"}, {"prompts_version": "2"}, "prompts_version: 2 against 1"),
        ({"code_version": "x"}, {"code_version": "y"}, "code_version: y against x"),
        ({"pools_sha256": OLD}, {"pools_sha256": NEW}, f"pools_sha256: {NEW[:12]} against {OLD[:12]}"),
    ],
)
def test_cases_that_were_asked_otherwise_are_compared_unpaired_and_the_card_says_why(
    mine: dict[str, Any], theirs: dict[str, Any], says: str
) -> None:
    decision = decided(on_cases("a", NEW, **mine), on_cases("b", NEW, **theirs), incumbent="a")
    assert any("reasoning of b was measured in another way than of a" in n and says in n for n in decision.notes)
    assert any("cove_pass_rate of b is not paired by case" in note and says in note for note in decision.notes)
    challenge = decision.candidate("b").challenge
    assert challenge is not None
    of_cases = next(d for d in challenge.differences if d.metric == "cove_pass_rate")
    assert of_cases.test == "beyond noise"
    assert f"not paired by case: reasoning was measured in another way than most candidates': {says}" in of_cases.why
    assert says in card.to_markdown(decision, TIERS).replace("\\", "")


def test_how_many_questions_were_asked_at_once_changes_no_figure() -> None:
    pool = [on_cases(v, NEW, plan={"concurrency": slots, "questions": 2}) for v, slots in (("a", 1), ("b", 4))]
    decision = decided(*pool, incumbent="a")
    challenge = decision.candidate("b").challenge
    assert not decision.notes
    assert challenge is not None
    assert {d.test for d in challenge.differences} == {"beyond noise", "McNemar, exact", "paired bootstrap"}


@pytest.mark.parametrize("what", ["sampling", "load", "cache", "definitions_version", "prompts_sha256"])
def test_speeds_that_were_measured_otherwise_are_noted(what: str) -> None:
    pool = [told(on_cases(v, NEW), "inference", **{what: v}) for v in ("a", "b", "c")]
    notes = decided(*pool[:1], *(told(on_cases(v, NEW), "inference", **{what: "b"}) for v in ("b", "c"))).notes
    assert notes == (
        f"inference of b, c was measured in another way than of a, so the figures may not be comparable: "
        f"{what}: b against a",
    )


def environment(cpu: str) -> dict[str, Any]:
    host = {"cpu_model": cpu, "physical_cores": 2, "logical_cores": 2, "ram_bytes": 1, "kernel": "6"}
    return {"host": host, "gpus": [], "gpus_absent_because": "none", "server": None}


def test_a_candidate_whose_tiers_were_measured_on_different_machines_is_noted() -> None:
    mixed = told(on_cases("a", NEW), "inference", fingerprint=environment("one"))
    mixed = told(mixed, "reasoning", fingerprint=environment("two"))
    whole = told(
        told(on_cases("b", NEW), "inference", fingerprint=environment("one")),
        "reasoning",
        fingerprint=environment("one"),
    )
    assert decided(mixed, whole).notes == (
        "of a, reasoning was measured in another environment than inference: host.cpu_model: 'two' against 'one'",
    )
