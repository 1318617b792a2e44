"""How sure, and what follows: unclear winners, the incumbent, rank reversal, what would change the outcome."""

from __future__ import annotations

from typing import Any

import pytest

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision, Standing, Verdict
from milton_assets.selection.policy import IncumbentRule, Normalisation, Policy
from milton_assets.selection.policy_file import load_policy
from tests.support.selection import RUN_ID, candidate, manifest
from tests.support.tiers import TIERS


def decided(
    *candidates: Candidate,
    policy: Policy | str = "anchored",
    incumbent: str | None = None,
    fingerprints: dict[str, dict[str, Any]] | None = None,
    fingerprint_of: dict[str, str] | None = None,
) -> Decision:
    chosen = load_policy(policy) if isinstance(policy, str) else policy
    pinned = manifest(candidates, chosen, fingerprints=fingerprints, fingerprint_of=fingerprint_of)
    return decide(
        run_id=RUN_ID, candidates=candidates, policy=chosen, manifest=pinned, incumbent=incumbent, tiers=TIERS
    )


def about(value: float, share: float = 0.01) -> tuple[float, float, float]:
    return value, value * (1 - share), value * (1 + share)


def right(correct: int, total: int = 100) -> list[bool]:
    """The first cases are answered right, so that a better model is right wherever a lesser one is."""
    return [True] * correct + [False] * (total - correct)


def model(
    version: str, latency: float = 100, throughput: float = 50, correct: int = 95, ndcg: float = 0.6
) -> Candidate:
    return candidate(
        version,
        about(latency),
        about(throughput),
        (correct / 100, correct / 100 - 0.04, min(correct / 100 + 0.04, 1)),
        (ndcg, ndcg - 0.05, ndcg + 0.05),
        passed=right(correct),
        ndcg_by_query=[ndcg] * 40,
    )


WORKED = [
    candidate("A", about(2.1), about(59), about(0.98), about(0.58)),
    candidate("B", about(2.6), about(38), about(0.98), about(0.57)),
    candidate("C", about(1.4), about(68), about(0.97), about(0.57)),
]
DOMINATED = candidate("D", about(3.3), about(12), about(0.92), about(0.53))


def leader(decision: Decision) -> str:
    return decision.candidates[0].version


def test_adding_a_model_that_everybody_beats_flips_seed_but_not_anchored() -> None:
    assert [leader(decided(*pool, policy="seed")) for pool in (WORKED, [*WORKED, DOMINATED])] == ["A", "C"]
    before, after = decided(*WORKED), decided(*WORKED, DOMINATED)
    assert leader(before) == leader(after) == "C"
    for version in "ABC":
        assert before.candidate(version).score == after.candidate(version).score


def test_a_large_lead_is_clear_and_promoted() -> None:
    decision = decided(model("fast", 50, 100), model("slow", 100, 50))
    assert decision.confidence is not None
    assert decision.confidence.clear
    assert decision.confidence.contenders == ("fast",)
    assert (decision.verdict, decision.winner) == (Verdict.PROMOTE, "fast")
    assert decision.candidate("fast").probability_best == 1.0


def test_a_lead_within_noise_is_no_clear_winner_and_the_tie_break_decides() -> None:
    # A quarter more throughput is worth a hair more than a fifth less latency; latency is what breaks ties.
    decision = decided(model("a", 80, 50), model("b", 100, 62.6))
    assert leader(decision) == "b"
    assert decision.confidence is not None
    assert not decision.confidence.clear
    assert decision.winner == "a"
    assert any("no clear winner among" in reason and "tie-breaks prefer a" in reason for reason in decision.reasons)
    assert "ahead of a" in decision.candidate("b").why


def test_a_tie_break_within_noise_asks_the_next_one_and_at_last_the_ranking() -> None:
    # Latencies within noise of each other: throughput decides, though "a" is a little faster to answer.
    assert decided(model("a", 99, 50), model("b", 100, 60, correct=92), policy="anchored").winner == "b"
    # Both within noise: whoever stands higher in the ranking.
    both = decided(model("a", 100, 50), model("b", 100.5, 50.6))
    assert both.confidence is not None
    assert not both.confidence.clear
    assert both.winner == leader(both) == "b"


def test_under_seed_the_score_decides_even_when_it_is_not_clear() -> None:
    decision = decided(model("a", 100, 50), model("b", 100.5, 50.6, 96), policy="seed")
    assert decision.confidence is not None
    assert not decision.confidence.clear
    assert decision.winner == leader(decision)
    assert any("the policy lets the score decide" in reason for reason in decision.reasons)


def test_under_a_strict_policy_nothing_is_promoted_without_a_clear_winner() -> None:
    sure = [
        candidate(
            v, about(lat), about(tps), (1.0, 0.96, 1.0), (0.7, 0.65, 0.75), passed=right(100), ndcg_by_query=[0.7] * 9
        )
        for v, lat, tps in (("a", 100, 50), ("b", 100.5, 50.6))
    ]
    decision = decided(*sure, policy="anchored_strict")
    assert decision.verdict is Verdict.NO_VERDICT
    assert decision.winner is None
    assert any("the policy then promotes nothing" in reason for reason in decision.reasons)
    assert decision.candidates[0].why == "rank 1"


def test_normalisations_that_disagree_are_no_clear_winner() -> None:
    # Anchored prefers C by its speeds; min-max prefers A by a hair of quality.
    exact = [
        candidate(v, about(lat, 1e-4), about(tps, 1e-4), about(cove, 1e-4), about(ndcg, 1e-4))
        for v, lat, tps, cove, ndcg in (
            ("A", 2.1, 59, 0.98, 0.58),
            ("B", 2.6, 38, 0.98, 0.57),
            ("C", 1.4, 68, 0.97, 0.57),
        )
    ]
    decision = decided(*exact)
    assert decision.confidence is not None
    assert decision.confidence.second_opinion is not None
    assert (leader(decision), decision.confidence.second_opinion.winner) == ("C", "A")
    assert not decision.confidence.clear
    assert set(decision.confidence.contenders) == {"C", "A"}
    assert "normalised the other way (minmax_pool) A would lead" in decision.confidence.why


def test_without_intervals_it_is_said_that_nothing_is_known() -> None:
    decision = decided(candidate("a", 50.0), candidate("b", 100.0))
    assert decision.confidence is not None
    assert not decision.confidence.clear
    assert decision.confidence.unknown_because is not None
    assert "ttft_ms.median of a and 1 more has no interval" in decision.confidence.unknown_because
    assert decision.candidate("a").probability_best is None
    assert decision.winner == "a"


def test_alone_a_candidate_is_clear_since_nobody_else_stood() -> None:
    decision = decided(candidate("a"))
    assert decision.confidence is not None
    assert decision.confidence.clear
    assert decision.confidence.why == "a had nobody to be compared with"


def test_the_same_model_registered_again_does_not_replace_the_incumbent() -> None:
    decision = decided(model("old"), model("new", 98, 51), incumbent="old")
    assert (decision.verdict, decision.winner) == (Verdict.REJECT, None)
    assert "old, which serves today, stays: new leads the ranking, but it is within every margin" in "; ".join(
        decision.reasons
    )
    assert "may not replace old" in decision.candidate("new").why


def test_a_better_model_replaces_the_incumbent_and_the_reason_says_how() -> None:
    decision = decided(model("old", correct=90), model("new", 10, 90, correct=99), incumbent="old")
    assert decision.winner == "new"
    assert decision.reasons[-1].startswith("new may replace old, which serves today: it is better on ttft_ms.median")
    challenge = decision.candidate("new").challenge
    assert challenge is not None
    assert challenge.replaces
    assert decision.candidate("old").challenge is None


@pytest.mark.parametrize("name", ["seed", "smoke"])
def test_the_default_policies_do_not_replace_what_serves_by_chance(name: str) -> None:
    pool = [model("old"), model("new", 98, 51)]
    again = decided(*pool, policy=name, incumbent="old")
    assert (leader(again), again.verdict, again.winner) == ("new", Verdict.REJECT, None)
    assert again.reasons[-2].startswith("old, which serves today, stays: new leads the ranking, but it is within")
    first = decided(*pool, policy=name)
    assert (first.verdict, first.winner) == (Verdict.PROMOTE, "new")
    assert [r.score for r in first.candidates] == [r.score for r in again.candidates]
    assert decided(model("old"), model("new", 10, 100), policy=name, incumbent="old").winner == "new"


def test_when_no_contender_may_replace_the_incumbent_it_is_said_and_the_tie_breaks_choose_among_the_rest() -> None:
    # "x" and "y" lead side by side, but give up too much quality to replace "old"; "z" is faster than it and as good.
    pool = [
        model("old", 150, 50, correct=98),
        model("x", 10, 250, correct=91),
        model("y", 10.05, 249, correct=91),
        model("z", 25, 50, correct=98),
    ]
    decision = decided(*pool, incumbent="old")
    assert decision.confidence is not None
    assert not decision.confidence.clear
    assert set(decision.confidence.contenders) == {"x", "y"}
    assert decision.winner == "z"
    assert (
        "no clear winner among x, y, and none of them may replace the incumbent: the policy's tie-breaks prefer z"
        in decision.reasons
    )


def test_an_incumbent_that_leads_stays_and_nothing_is_promoted() -> None:
    decision = decided(model("old", 50, 100), model("new"), incumbent="old")
    assert decision.verdict is Verdict.REJECT
    assert "old, which serves today, stays: it leads the ranking" in decision.reasons


def test_an_incumbent_that_fails_a_gate_may_be_replaced_by_anybody_eligible() -> None:
    decision = decided(model("old", 50, 100, correct=60), model("new"), incumbent="old")
    assert decision.winner == "new"
    assert "old, which serves today, failed a gate" in decision.notes[0]


def test_an_incumbent_that_misses_a_gate_by_chance_is_replaced_only_by_who_is_shown_to_be_better() -> None:
    """89 of 100 against a gate of 0.90: the interval reaches 0.94."""
    missed = model("old", correct=89)
    decision = decided(missed, model("new", correct=91), incumbent="old")
    assert decision.winner is None
    assert decision.candidate("old").gates[0].admits is False
    assert decision.candidate("new").challenge is not None
    assert decision.notes[0].startswith(
        "old, which serves today, misses the gate cove_pass_rate >= 0.9 as measured, which may be chance: 0.89 ["
    )
    assert decided(missed, model("new", correct=100), incumbent="old").winner == "new"


def test_a_challenger_that_misses_a_gate_by_chance_is_refused_all_the_same() -> None:
    decision = decided(model("old"), model("new", 50, 100, correct=89), incumbent="old")
    assert decision.candidate("new").standing is Standing.FAILED


def test_a_rule_from_before_lets_an_incumbent_down_by_a_gate_that_it_missed_as_measured() -> None:
    seed = load_policy("seed")
    assert seed.incumbent is not None
    before = IncumbentRule(alpha=seed.incumbent.alpha, margins=seed.incumbent.margins)
    policy = seed.model_copy(update={"incumbent": before})
    assert set(before.model_dump()) == {"alpha", "margins"}
    decision = decided(model("old", correct=89), model("new", correct=91), policy=policy, incumbent="old")
    assert decision.winner == "new"
    assert "old, which serves today, failed a gate" in decision.notes[0]


def test_when_the_incumbent_could_not_be_judged_nobody_replaces_it() -> None:
    broken = candidate("old", excluded="its benchmark run failed")
    decision = decided(broken, model("new"), incumbent="old")
    assert decision.verdict is Verdict.NO_VERDICT
    assert "could not be judged" in decision.reasons[-1]
    assert "its benchmark run failed" in decision.reasons[-1]


def test_an_incumbent_that_did_not_stand_holds_nobody_back() -> None:
    decision = decided(model("new"), incumbent="gone")
    assert decision.winner == "new"
    assert "gone, which serves today, was no candidate" in decision.notes[0]


def test_a_policy_without_the_rule_promotes_past_the_incumbent() -> None:
    seed = load_policy("seed").model_copy(update={"incumbent": None})
    decision = decided(model("old"), model("new", 98, 51), policy=seed, incumbent="old")
    assert decision.winner == "new"
    assert decision.candidate("new").challenge is None


def would_change(decision: Decision) -> dict[tuple[str, float], str | None]:
    """The weight changes after which another is promoted, or nobody, and who."""
    assert decision.sensitivity is not None
    return {(c.metric, c.factor): c.winner for c in decision.sensitivity.weights if c.changes}


def without(decision: Decision) -> dict[str, tuple[Verdict, str | None]]:
    """Whose leaving changes the outcome, and to what."""
    assert decision.sensitivity is not None
    return {one.version: (one.verdict, one.winner) for one in decision.sensitivity.left_out}


def test_weights_that_would_change_the_winner_are_named() -> None:
    decision = decided(model("fast", 50, 100, correct=91), model("right", 100, 50, correct=99, ndcg=0.66))
    assert decision.sensitivity is not None
    assert len(decision.sensitivity.weights) == 8
    assert decision.winner == "fast"
    # With more weight on quality "right" would lead too, but not clearly, and "fast" has the lower latency.
    assert would_change(decision) == {("ttft_ms.median", 0.5): "right", ("output_tokens_per_s", 0.5): "right"}


def test_a_weight_that_changes_who_leads_changes_nothing_where_the_incumbent_stays() -> None:
    # Neither may replace "old": "fast" gives up quality, "right" speed.
    pool = [model("old", 70, 70), model("fast", 25, 200, correct=91), model("right", 140, 35, correct=99, ndcg=0.8)]
    kept, free = decided(*pool, policy="seed", incumbent="old"), decided(*pool, policy="seed")
    for decision in (kept, free):
        assert leader(decision) == "fast"
        assert decision.sensitivity is not None
        assert {c.leader for c in decision.sensitivity.weights} == {"fast", "right"}
    assert (kept.verdict, would_change(kept)) == (Verdict.REJECT, {})
    assert (free.winner, set(would_change(free).values())) == ("fast", {"right"})


def test_a_weight_that_makes_a_lead_clear_takes_the_choice_from_the_tie_breaks() -> None:
    alone = load_policy("anchored").model_copy(update={"second_opinion": None})
    decision = decided(model("a", 80, 50), model("b", 100, 65), policy=alone)
    assert (leader(decision), decision.winner) == ("b", "a")
    assert (decision.candidate("b").probability_best or 0) < alone.certainty.clear_at
    assert would_change(decision) == {("ttft_ms.median", 0.5): "b", ("output_tokens_per_s", 1.5): "b"}


def test_leaving_out_a_model_that_everybody_beats_can_change_the_winner() -> None:
    decision = decided(*WORKED, DOMINATED, policy="seed")
    assert decision.winner == "C"
    assert without(decision) == {"C": (Verdict.PROMOTE, "A"), "D": (Verdict.PROMOTE, "A")}
    assert without(decided(WORKED[0])) == {"A": (Verdict.NO_VERDICT, None)}
    failed = candidate("failed", about(1), about(100), about(0.5), about(0.58))
    assert without(decided(WORKED[0], failed)) == {"A": (Verdict.REJECT, None)}


def test_leaving_out_an_incumbent_that_could_not_be_judged_sets_the_others_free() -> None:
    decision = decided(candidate("old", excluded="its benchmark run failed"), model("new"), incumbent="old")
    assert without(decision)["old"] == (Verdict.PROMOTE, "new")


@pytest.mark.parametrize("policy", ["seed", "anchored", "anchored_strict"])
@pytest.mark.parametrize("incumbent", [None, "old"])
def test_leaving_out_agrees_with_deciding_without_that_candidate(policy: str, incumbent: str | None) -> None:
    pool = [
        model("old", 100, 50, correct=98),
        model("x", 20, 250, correct=94),
        model("y", 20.1, 249, correct=94),
        model("z", 60, 80, correct=98),
        model("slow", 400, 10, correct=95),
    ]
    decision = decided(*pool, policy=policy, incumbent=incumbent)
    found = without(decision)
    for gone in pool:
        rest = decided(*(c for c in pool if c is not gone), policy=policy, incumbent=incumbent)
        assert found.get(gone.version, (decision.verdict, decision.winner)) == (rest.verdict, rest.winner)


@pytest.mark.parametrize("policy", ["seed", "anchored", "anchored_strict"])
def test_another_weight_agrees_with_deciding_under_it(policy: str) -> None:
    chosen = load_policy(policy)
    pool = [model("old", correct=98), model("fast", 60, 80, correct=96), model("right", 95, 55, correct=100, ndcg=0.7)]
    decision = decided(*pool, policy=chosen, incumbent="old")
    assert decision.sensitivity is not None
    for change in decision.sensitivity.weights:
        scaled = {c.metric: c.weight * (change.factor if c.metric == change.metric else 1) for c in chosen.criteria}
        total = sum(scaled.values())
        criteria = tuple(c.model_copy(update={"weight": scaled[c.metric] / total}) for c in chosen.criteria)
        other = decided(*pool, policy=chosen.model_copy(update={"criteria": criteria}), incumbent="old")
        assert (change.leader, change.verdict, change.winner) == (leader(other), other.verdict, other.winner)
        assert change.changes == ((other.verdict, other.winner) != (decision.verdict, decision.winner))


def test_in_a_large_pool_what_is_held_is_said_and_those_who_matter_are_left_out_all_the_same() -> None:
    crowd = [candidate(f"m{i:02}", about(2.2 + i / 100), about(40), about(0.97), about(0.56)) for i in range(40)]
    decision = decided(*WORKED, *crowd, DOMINATED, policy="seed")
    assert decision.sensitivity is not None
    assert "more than 20 candidates" in " ".join(decision.sensitivity.held)
    found = without(decision)
    for gone in (*WORKED, DOMINATED):
        rest = decided(*(c for c in (*WORKED, *crowd, DOMINATED) if c is not gone), policy="seed")
        assert found.get(gone.version, (decision.verdict, decision.winner)) == (rest.verdict, rest.winner)
    small = decided(*WORKED, DOMINATED, policy="seed").sensitivity
    assert small is not None
    assert small.held == ()


def test_the_pareto_front_is_marked() -> None:
    decision = decided(*WORKED, DOMINATED)
    assert {r.version for r in decision.candidates if r.pareto_optimal} == {"A", "C"}


def test_figures_beyond_the_anchors_are_noted() -> None:
    decision = decided(candidate("a", 0.5), candidate("b"))
    assert "ttft_ms.median of a lies beyond the policy's anchors" in decision.notes
    assert not any("anchors" in note for note in decided(candidate("a", 0.5), policy="seed").notes)


def test_candidates_measured_on_other_machines_are_noted() -> None:
    def machine(cpu: str) -> dict[str, Any]:
        host = {"cpu_model": cpu, "physical_cores": 2, "logical_cores": 2, "ram_bytes": 1, "kernel": "6"}
        return {"host": host, "gpus": [], "gpus_absent_because": "none", "server": None}

    environments = {"1" * 64: machine("one"), "2" * 64: machine("two"), "3" * 64: {"odd": True}}
    measured_in = {"a": "1" * 64, "b": "2" * 64, "c": "3" * 64}
    decision = decided(model("a"), model("b"), model("c"), fingerprints=environments, fingerprint_of=measured_in)
    assert any("b was measured in another environment than a" in note and "'one'" in note for note in decision.notes)
    assert "the environment that c was measured in is not described in a known form" in decision.notes


def test_a_candidate_measured_on_a_gpu_is_never_silently_compared_with_one_on_the_cpu() -> None:
    def served(layers: int | None) -> dict[str, Any]:
        told = {"layers": layers, "of_layers": 31, "gpus": ["CUDA0: A"], "memory_bytes": 1}
        server = {"name": "llama.cpp", "offload": None if layers is None else told}
        return {"host": None, "host_absent_because": "not asked", "server": server}

    environments = {"1" * 64: served(None), "2" * 64: served(31)}
    measured_in = {"a": "1" * 64, "b": "2" * 64}
    decision = decided(model("a"), model("b"), fingerprints=environments, fingerprint_of=measured_in)
    assert (
        "b was measured in another environment than a, so their speeds may not be comparable: "
        "server.offload: None against 'all layers on GPUs; CUDA0: A used'"
    ) in decision.notes


@pytest.mark.parametrize("policy", ["seed", "anchored", "seed_strict", "anchored_strict"])
def test_equal_evidence_gives_an_equal_decision_byte_for_byte(policy: str) -> None:
    pool = [model("a"), model("b", 90, 55), model("c", 95, 52, correct=97)]
    first, second = decided(*pool, policy=policy, incumbent="a"), decided(*reversed(pool), policy=policy, incumbent="a")
    assert Decision.from_json(first.to_json()).to_json() == first.to_json()
    # The manifests differ in the order of their candidates, hence in digest and seed; ranking and gates may not.
    assert [r.version for r in first.candidates] == [r.version for r in second.candidates]
    again = decided(*pool, policy=policy, incumbent="a")
    assert again.to_json() == first.to_json()


def test_strict_policies_differ_from_theirs_only_in_caution() -> None:
    for name, normalisation in (("seed", Normalisation.MINMAX_POOL), ("anchored", Normalisation.ANCHORED)):
        lenient, strict = load_policy(name), load_policy(f"{name}_strict")
        assert strict.normalisation is normalisation
        assert strict.criteria == lenient.criteria
        assert [(g.key, g.threshold) for g in strict.gates] == [(g.key, g.threshold) for g in lenient.gates]


def test_thirty_five_of_thirty_five_pass_a_strict_gate_and_three_of_three_do_not() -> None:
    # Wilson's lower ends at 95 %: 3/3 is .44, 35/35 is .90.
    for low, standing in ((0.4385, Standing.INCONCLUSIVE), (0.9011, Standing.ELIGIBLE)):
        one = candidate("a", about(100), about(50), (1.0, low, 1.0), about(0.7))
        assert decided(one, policy="anchored_strict").candidates[0].standing is standing
