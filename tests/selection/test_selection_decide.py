"""Deciding: gates before scores, every verdict with its reasons, and the same answer every time."""

from __future__ import annotations

import random

import pytest

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision, GateAnswer, Standing, Verdict
from milton_assets.selection.policy import GateMode, Operator, Policy
from milton_assets.selection.policy_file import load_policy
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.metric import Interval, Metric
from milton_assets.vocabulary.tier import TierResult
from tests.support.selection import COVE, HEADLINES, RUN_ID, candidate, manifest, metric
from tests.support.tiers import BUILT_IN, TIERS


def decided(*candidates: Candidate, policy: Policy | None = None, incumbent: str | None = None) -> Decision:
    chosen = policy or load_policy("seed")
    return decide(
        run_id=RUN_ID,
        candidates=candidates,
        policy=chosen,
        manifest=manifest(candidates, chosen),
        incumbent=incumbent,
        tiers=TIERS,
    )


def skipped(version: str) -> Candidate:
    tiers = {
        tier: TierResult.skipped(tier, [(n, u) for t, n, u in HEADLINES if t is tier], "this was a dry run")
        for tier in BUILT_IN
    }
    return Candidate(version, tiers, 1000)


A = candidate("A", 2.1, 59, 0.98, 0.58)
B = candidate("B", 2.6, 38, 0.98, 0.57)
C = candidate("C", 1.4, 68, 0.97, 0.57)
D = candidate("D", 3.3, 12, 0.92, 0.53)


def test_the_best_score_is_promoted_and_the_reasons_name_the_runner_up() -> None:
    decision = decided(A, B, C)
    assert (decision.verdict, decision.winner) == (Verdict.PROMOTE, "A")
    assert [(r.version, r.rank, round(r.score or 0, 3)) for r in decision.candidates] == [
        ("A", 1, 0.779),
        ("C", 2, 0.5),
        ("B", 3, 0.25),
    ]
    assert "0.779" in decision.reasons[0]
    assert "ahead of C with 0.500" in decision.reasons[0]
    assert decision.candidate("B").why.startswith("rank 3: 0.529 behind A")


def test_under_seed_a_candidate_that_everybody_beats_flips_the_winner() -> None:
    assert decided(A, B, C).winner == "A"
    assert decided(A, B, C, D).winner == "C"


def test_gates_come_before_scores() -> None:
    fast_and_wrong = candidate("fast", 0.1, 500, 0.5, 0.9)
    decision = decided(fast_and_wrong, A, C)
    report = decision.candidate("fast")
    assert decision.winner == decided(A, C).winner
    assert (report.standing, report.score, report.rank) == (Standing.FAILED, None, None)
    assert report.why == "gate cove_pass_rate >= 0.9 not reached: 0.5 (no interval is known)"
    assert [r.score for r in decision.eligible] == [r.score for r in decided(A, C).candidates]


def test_one_candidate_wins_alone_and_the_reason_says_so() -> None:
    decision = decided(A)
    assert (decision.winner, decision.candidates[0].score) == ("A", 1.0)
    assert "only eligible candidate" in decision.reasons[0]


def test_candidates_with_equal_figures_tie_and_the_version_decides() -> None:
    decision = decided(candidate("b"), candidate("a"))
    assert [(r.version, r.score) for r in decision.candidates] == [("a", 1.0), ("b", 1.0)]
    assert "tie-breaks put a first" in decision.reasons[0]
    assert decision.candidate("b").why == "rank 2: the same score as a, which the tie-breaks put first"


def test_no_eligible_candidate_is_a_rejection_with_each_ones_reasons() -> None:
    decision = decided(candidate("a", cove=0.5, ndcg=0.1), candidate("b", cove=0.89))
    assert (decision.verdict, decision.winner) == (Verdict.REJECT, None)
    assert decision.reasons == (
        "none of 2 candidates is eligible: 2 failed a gate",
        "a: gate cove_pass_rate >= 0.9 not reached: 0.5 (no interval is known); "
        "gate nDCG@10 >= 0.5 not reached: 0.1 (no interval is known)",
        "b: gate cove_pass_rate >= 0.9 not reached: 0.89 (no interval is known)",
    )


@pytest.mark.parametrize(
    "broken",
    [
        Metric.skipped("cove_pass_rate", "share", "nobody asked"),
        Metric.failed("cove_pass_rate", "share", "the server died", n=3, errors=3),
        Metric.measured("cove_pass_rate", "share", 0.95, n=30).invalidated("the client was the bottleneck"),
    ],
)
def test_a_candidate_with_a_figure_that_cannot_be_relied_on_is_not_eligible(broken: Metric) -> None:
    decision = decided(candidate("bad", cove=broken), A)
    report = decision.candidate("bad")
    assert report.standing is Standing.NO_EVIDENCE
    assert broken.why is not None
    assert broken.why in report.why
    assert report.gates[0].answer is GateAnswer.INCONCLUSIVE
    assert decision.winner == "A"


@pytest.mark.parametrize(("place", "name"), [(0, "ttft_ms.median"), (1, "output_tokens_per_s"), (2, "cove_pass_rate")])
def test_a_figure_of_one_case_never_ranks_however_good_it_is(place: int, name: str) -> None:
    figures = [metric(one, unit, best, n=100) for (_, one, unit), best in zip(HEADLINES, (1, 999, 1, 1), strict=True)]
    figures[place] = figures[place].model_copy(update={"n": 1})
    lucky = candidate("lucky", *figures)
    decision = decided(lucky, A)
    assert decision.winner == "A"
    assert (decision.candidate("lucky").standing, decision.candidate("lucky").rank) == (Standing.NO_EVIDENCE, None)
    assert f"{name} rests on a single case" in decision.candidate("lucky").why
    assert any("lucky could not be judged" in note for note in decision.notes)


def test_alone_a_figure_of_one_case_is_no_verdict() -> None:
    single = candidate("single", cove=metric(COVE[1], COVE[2], 1.0, n=1))
    decision = decided(single)
    assert (decision.verdict, decision.winner) == (Verdict.NO_VERDICT, None)
    assert any("rests on a single case" in reason for reason in decision.reasons)


def test_when_nobody_could_be_judged_there_is_no_verdict() -> None:
    broken = Metric.failed("cove_pass_rate", "share", "the server died")
    decision = decided(candidate("a", cove=broken), candidate("b", excluded="its benchmark run failed"))
    assert (decision.verdict, decision.winner) == (Verdict.NO_VERDICT, None)
    assert "2 could not be judged for lack of evidence" in decision.reasons[0]
    assert "b: its benchmark run failed" in decision.reasons


def test_a_dry_run_in_which_everything_was_skipped_decides_nothing() -> None:
    decision = decided(skipped("a"), skipped("b"))
    assert decision.verdict is Verdict.NO_VERDICT
    assert "dry run" in decision.candidate("a").why


def test_no_candidates_at_all_is_no_verdict() -> None:
    assert decided().verdict is Verdict.NO_VERDICT
    assert "no candidate stood" in decided().reasons[0]


def test_one_failed_gate_among_missing_evidence_is_a_rejection() -> None:
    decision = decided(candidate("a", cove=0.1), candidate("b", excluded="its benchmark run failed"))
    assert decision.verdict is Verdict.REJECT


def test_a_missing_tier_and_a_missing_metric_are_named() -> None:
    whole = candidate("a")
    without_tier = Candidate("a", {t: r for t, r in whole.tiers.items() if t != "reasoning"})
    assert "there is no reasoning evidence" in decided(without_tier).candidate("a").why
    tiers = dict(whole.tiers) | {"reasoning": TierResult("reasoning", ())}
    assert "no such metric; it has nothing" in decided(Candidate("a", tiers)).candidate("a").why


def test_an_excluded_candidate_never_wins_however_good() -> None:
    decision = decided(candidate("best", 0.1, 900, 1.0, 1.0, excluded="its benchmark run failed"), A)
    assert decision.winner == "A"
    assert decision.candidate("best").why == "its benchmark run failed"


@pytest.mark.parametrize(
    ("figure", "answer", "point", "strict"),
    [
        ((0.95, 0.91, 0.98), GateAnswer.PASS, True, True),
        ((0.95, 0.85, 0.98), GateAnswer.INCONCLUSIVE, True, False),
        ((0.85, 0.80, 0.92), GateAnswer.INCONCLUSIVE, False, False),
        ((0.50, 0.40, 0.60), GateAnswer.FAIL, False, False),
        (0.95, GateAnswer.PASS, True, True),
        (0.85, GateAnswer.FAIL, False, False),
    ],
)
def test_a_gate_answers_from_the_interval_and_admits_by_its_mode(
    figure: float | tuple[float, float, float], answer: GateAnswer, point: bool, strict: bool
) -> None:
    seed = load_policy("seed")
    hard = seed.model_copy(update={"gates": tuple(g.model_copy(update={"mode": GateMode.STRICT}) for g in seed.gates)})
    for policy, admits in ((seed, point), (hard, strict)):
        outcome = decided(candidate("a", cove=figure), policy=policy).candidates[0].gates[0]
        assert (outcome.answer, outcome.admits) == (answer, admits)


def test_a_gate_from_above_reads_the_other_end_of_the_interval() -> None:
    seed = load_policy("seed")
    gate = seed.gates[0].model_copy(
        update={"tier": "inference", "metric": "ttft_ms.median", "op": Operator.AT_MOST, "threshold": 100.0}
    )
    policy = Policy.model_validate(seed.model_dump() | {"gates": [gate.model_dump()]})
    answers = [
        decided(candidate("a", latency=figure), policy=policy).candidates[0].gates[0].answer
        for figure in ((50.0, 40.0, 60.0), (90.0, 80.0, 120.0), (200.0, 150.0, 250.0))
    ]
    assert answers == [GateAnswer.PASS, GateAnswer.INCONCLUSIVE, GateAnswer.FAIL]


def test_only_inconclusive_strict_gates_are_no_verdict() -> None:
    seed = load_policy("seed")
    hard = Policy.model_validate(
        seed.model_dump() | {"gates": [g.model_dump() | {"mode": "strict"} for g in seed.gates]}
    )
    thin = candidate("a", cove=(0.95, 0.7, 0.99))
    decision = decided(thin, policy=hard)
    assert decision.verdict is Verdict.NO_VERDICT
    assert decision.candidate("a").standing is Standing.INCONCLUSIVE
    assert decided(thin, candidate("b", cove=(0.5, 0.4, 0.6)), policy=hard).verdict is Verdict.REJECT


def test_the_order_in_which_candidates_come_does_not_matter() -> None:
    candidates = [A, B, C, D, candidate("E", cove=0.1)]
    pinned = manifest(candidates)
    shuffled = list(candidates)
    random.Random(1).shuffle(shuffled)
    first, second = (
        decide(run_id=RUN_ID, candidates=some, policy=load_policy("seed"), manifest=pinned, incumbent=None, tiers=TIERS)
        for some in (candidates, shuffled)
    )
    assert first.to_json() == second.to_json()


def test_a_decision_survives_json_byte_for_byte() -> None:
    decision = decided(candidate("a", cove=(0.95, 0.9, 0.99)), B, C, candidate("x", excluded="it failed"))
    again = Decision.from_json(decision.to_json())
    assert again == decision
    assert again.to_json() == decision.to_json()
    assert again.digest() == decision.digest()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"decision_version": 8}'])
def test_what_is_no_decision_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="no decision"):
        Decision.from_json(text)


def test_a_decision_of_another_version_is_refused() -> None:
    with pytest.raises(BadInput, match="version 99, this release reads version 8"):
        Decision.from_json(decided(A).to_json().replace('"decision_version":8', '"decision_version":99'))


def test_a_decision_that_contradicts_itself_is_refused() -> None:
    text = decided(A).to_json()
    for found, instead in (('"winner":"A"', '"winner":null'), ('"standing":"eligible"', '"standing":"failed"')):
        assert found in text
        with pytest.raises(BadInput):
            Decision.from_json(text.replace(found, instead))
    with pytest.raises(BadInput, match="digest"):
        Decision.from_json(text.replace('"threshold":0.9', '"threshold":0.1'))


def test_a_version_that_stands_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="A stands twice"):
        decide(
            run_id=RUN_ID,
            candidates=[A, A],
            policy=load_policy("seed"),
            manifest=manifest([A]),
            incumbent=None,
            tiers=TIERS,
        )


def test_the_manifest_of_another_run_is_refused() -> None:
    other = manifest([A], run_id="benchmark_20260112_000000")
    with pytest.raises(BadInput, match="benchmark_20260112_000000"):
        decide(run_id=RUN_ID, candidates=[A], policy=load_policy("seed"), manifest=other, incumbent=None, tiers=TIERS)


def test_figures_that_the_manifest_does_not_pin_are_refused() -> None:
    for pinned, says in (
        (manifest([A, Candidate("B")]), "B/inference"),
        (manifest([A]), "B stands, but is not pinned"),
    ):
        with pytest.raises(BadInput, match=says):
            decide(
                run_id=RUN_ID,
                candidates=[A, B],
                policy=load_policy("seed"),
                manifest=pinned,
                incumbent=None,
                tiers=TIERS,
            )


def test_a_manifest_that_pins_somebody_who_does_not_stand_is_refused() -> None:
    with pytest.raises(BadInput, match="B is pinned, but does not stand"):
        decide(
            run_id=RUN_ID,
            candidates=[A],
            policy=load_policy("seed"),
            manifest=manifest([A, B]),
            incumbent=None,
            tiers=TIERS,
        )


@pytest.mark.parametrize(("which", "name"), [("latency", "ttft_ms.median"), ("throughput", "output_tokens_per_s")])
def test_an_invalid_speed_leaves_its_gate_inconclusive_and_others_are_decided_among(which: str, name: str) -> None:
    seed = load_policy("seed")
    gate = {"tier": "inference", "metric": name, "op": ">=", "threshold": 1.0}
    policy = Policy.model_validate(seed.model_dump() | {"gates": [*seed.model_dump()["gates"], gate]})
    metric = Metric.measured(name, "ms", 500.0, n=40).invalidated("the client was the bottleneck")
    shaky = candidate("shaky", **{which: metric})
    decision = decided(shaky, A, C, policy=policy)
    report = decision.candidate("shaky")
    assert (report.standing, report.gates[-1].answer) == (Standing.NO_EVIDENCE, GateAnswer.INCONCLUSIVE)
    assert "the client was the bottleneck" in report.gates[-1].why
    assert decision.winner == decided(A, C, policy=policy).winner
    assert (
        "shaky could not be judged and might have been better: the ranking and its certainty are about the others"
        in decision.notes
    )
    nobody = decided(shaky, candidate("too", **{which: metric}), policy=policy)
    assert nobody.verdict is Verdict.NO_VERDICT


def test_another_policy_than_the_manifests_is_called_a_what_if() -> None:
    decision = decide(
        run_id=RUN_ID, candidates=[A], policy=load_policy("smoke"), manifest=manifest([A]), incumbent=None, tiers=TIERS
    )
    assert "what-if" in decision.notes[0]
    assert not decided(A).notes


def test_an_incumbent_that_was_not_measured_is_noted() -> None:
    assert "old, which serves today, was no candidate" in decided(A, incumbent="old").notes[0]


def test_a_candidate_refuses_keys_sizes_and_tiers_that_cannot_be() -> None:
    with pytest.raises(BadInput, match="not a slug"):
        Candidate("../etc")
    with pytest.raises(BadInput, match="size is -1"):
        Candidate("a", artefact_size_bytes=-1)
    with pytest.raises(BadInput, match="is one of inference"):
        Candidate("a", {"reasoning": TierResult("inference", ())})


def test_a_report_knows_only_what_the_policy_used() -> None:
    report = decided(A).candidate("A")
    assert report.reading("reasoning", COVE[1]).value == 0.98
    with pytest.raises(BadInput, match="did not use recall"):
        report.reading("reasoning", "recall")
    with pytest.raises(BadInput, match="Z is no candidate"):
        decided(A).candidate("Z")


def test_the_interval_of_a_figure_reaches_the_report() -> None:
    report = decided(candidate("a", cove=(0.95, 0.91, 0.98))).candidate("a")
    assert report.reading(*COVE[:2]).interval == Interval(low=0.91, high=0.98, method="bootstrap")
