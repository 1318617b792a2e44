"""The gate on fidelity keeps out what is grossly damaged, asks only where there is a reference, and ranks nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from milton_assets.selection import card
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decision import Decision, GateAnswer, Standing
from milton_assets.selection.policy_file import load_policy, shipped_policies
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.tier import TierResult
from tests.selection.test_selection_decide import decided
from tests.support.selection import candidate, metric
from tests.support.tiers import TIERS

KL = "kl_to_reference"


def with_kl(one: Candidate, measured: Metric) -> Candidate:
    others = tuple(m for m in one.tiers["fidelity"].metrics if m.name != KL)
    return replace(one, tiers={**one.tiers, "fidelity": TierResult("fidelity", (*others, measured))})


def kl(value: float) -> Metric:
    return metric(KL, "nats/token", value)


A = candidate("a", 20.0, 50.0)
FASTER = candidate("faster", 10.0, 100.0)


def answer(decision: Decision, version: str) -> GateAnswer:
    return next(gate.answer for gate in decision.candidate(version).gates if gate.metric == KL)


def test_what_is_grossly_damaged_is_kept_out_however_fast_it_is() -> None:
    decision = decided(with_kl(A, kl(0.01)), with_kl(FASTER, kl(3.0)))
    assert decision.winner == "a"
    damaged = decision.candidate("faster")
    assert (damaged.standing, answer(decision, "faster")) == (Standing.FAILED, GateAnswer.FAIL)
    assert "gate kl_to_reference <= 1 not reached: 3" in damaged.why


def test_being_nearer_to_the_reference_is_worth_nothing() -> None:
    near, far = (decided(with_kl(A, kl(0.001)), with_kl(FASTER, kl(value))) for value in (0.002, 0.9))
    assert near.winner == far.winner == "faster"
    assert [r.score for r in near.candidates] == [r.score for r in far.candidates]


def test_who_has_no_reference_passes_and_the_answer_says_why() -> None:
    decision = decided(A, with_kl(FASTER, kl(0.01)))
    assert decision.candidate("a").standing is Standing.ELIGIBLE
    assert answer(decision, "a") is GateAnswer.NOT_MEASURED
    assert [g.why for g in decision.candidate("a").gates if g.metric == KL] == ["it names no reference"]


@pytest.mark.parametrize(
    "broken",
    [Metric.failed(KL, "nats/token", "its reference died"), kl(0.1).invalidated("something is odd")],
    ids=["error", "invalid"],
)
def test_a_figure_that_was_tried_and_cannot_be_relied_on_is_no_pass(broken: Metric) -> None:
    decision = decided(A, with_kl(FASTER, broken))
    assert decision.candidate("faster").standing is Standing.NO_EVIDENCE
    assert decision.winner == "a"


@pytest.mark.parametrize("name", shipped_policies())
def test_every_policy_that_ships_has_it_and_weighs_it_nowhere(name: str) -> None:
    policy = load_policy(name)
    (gate,) = [gate for gate in policy.gates if gate.tier == "fidelity"]
    assert gate.only_where_measured
    assert "fidelity" not in {criterion.tier for criterion in policy.criteria}


def drawn(decision: Decision) -> str:
    console = Console(width=140, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        card.render(decision, console, TIERS)
    return captured.get()


def test_the_card_says_that_it_is_a_gate_and_no_ranking() -> None:
    text = drawn(decided(with_kl(A, kl(0.01)), FASTER))
    assert "kl_to_reference <= 1 (point)" in text
    assert "admitted (not measured)" in text
    assert "kl_to_reference: a gate and no ranking, it is weighed in no score." in " ".join(text.split())


def test_a_gate_that_asked_nobody_takes_no_column() -> None:
    text = drawn(decided(A, FASTER))
    assert "The gate kl_to_reference <= 1 asked nobody: no candidate has the figure." in " ".join(text.split())
    assert "kl_to_reference <= 1 (point)" not in text
