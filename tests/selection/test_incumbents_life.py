"""The incumbent's life: alpha is spent once, evidence counts once, and the noise is measured where it can be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.selection import card
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision, Difference
from milton_assets.selection.life import looked, with_previous
from milton_assets.selection.policy import Policy
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.simulate import SIMULATED, pinned, tables
from milton_assets.selection.summary import RunSummary, write_summary
from milton_assets.statistics.multiplicity import holm
from milton_assets.statistics.spending import Noise, group_share, is_look, look_share, mean_p
from milton_assets.usecases.past_ledger import check_ledger, ledger_before
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.ledger import Ledger, Tally
from milton_assets.vocabulary.tier import TierResult
from tests.support.selection import RUN_ID, candidate
from tests.support.tiers import TIERS

ANCHORED = load_policy("anchored")
SEED = load_policy("seed")


def about(value: float) -> tuple[float, float, float]:
    return value, value * 0.99, value * 1.01


def model(version: str, throughput: float = 50.0, latency: float = 100.0, wrong: int = 5) -> Candidate:
    """150 cases of which the last `wrong` are wrong, and 60 queries that everybody ranks alike."""
    passed = [True] * (150 - wrong) + [False] * wrong
    share = 1 - wrong / 150
    queries = (0.6 + np.random.RandomState(0).normal(0, 0.1, 60)).tolist()
    ndcg = float(np.mean(queries))
    return candidate(
        version,
        about(latency),
        about(throughput),
        (share, share - 0.04, min(share + 0.04, 1)),
        (ndcg, ndcg - 0.03, ndcg + 0.03),
        passed=passed,
        ndcg_by_query=queries,
    )


def decided(
    pool: list[Candidate],
    incumbent: str,
    nonce: str,
    ledger: Ledger,
    policy: Policy = SEED,
    known: dict[str, TierResult] | None = None,
) -> Decision:
    evidence = pinned(pool, policy, nonce=nonce, ledger=ledger)
    known = {} if known is None else known
    known |= tables(pool, evidence)
    return decide(
        run_id=RUN_ID,
        candidates=pool,
        policy=policy,
        manifest=evidence,
        incumbent=incumbent,
        tiers=TIERS,
        anchored=known,
    )


def campaigns(
    *pools: list[Candidate], incumbent: str = "old", serving: Sequence[str] = (), policy: str = "seed"
) -> list[Decision]:
    """One decision after the other, each with the ledger of the one before; every table is measured anew."""
    ledger, decisions = Ledger(), []
    known: dict[str, TierResult] = {}
    for number, pool in enumerate(pools):
        chosen = load_policy(policy)
        decision = decided(pool, serving[number] if serving else incumbent, str(number), ledger, chosen, known)
        decisions.append(decision)
        ledger = with_previous(decision.ledger, RUN_ID, decision.digest())
    return decisions


def difference(decision: Decision, version: str, metric: str) -> Difference:
    challenge = decision.candidate(version).challenge
    assert challenge is not None
    return next(one for one in challenge.differences if one.metric == metric)


def test_all_looks_together_spend_what_there_is_and_no_more() -> None:
    looks = [look_share(2**doubling) for doubling in range(60)]
    assert math.fsum(looks) == pytest.approx(1)
    assert math.fsum(group_share(number) for number in range(1, 100_000)) == pytest.approx(1, abs=1e-5)
    assert [seen for seen in range(20) if is_look(seen)] == [1, 2, 4, 8, 16]


def test_there_is_no_look_between_two_doublings() -> None:
    with pytest.raises(ValueError, match="only at 1, 2, 4, 8"):
        look_share(3)


@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=40))
def test_the_level_of_a_hypothesis_is_never_more_than_it_may_spend(p_values: list[float]) -> None:
    """What counts is never below the p-value of a look over its share, whatever the evidence."""
    test = Tally(0, 0.0, 1.0, better=False, evidence="")
    for number, p_value in enumerate(p_values, start=1):
        test = looked(test, str(number), 1.0, p_value)
        if is_look(number):
            assert test.p_spent == pytest.approx(min(1.0, p_value / look_share(number)))
    assert test.seen == len(p_values)


def test_the_same_evidence_is_not_tested_twice() -> None:
    once = looked(Tally(0, 0.0, 1.0, better=False, evidence=""), "table", 0.3, 0.01)
    assert looked(once, "table", 0.3, 0.01) == once
    assert looked(once, "another", 0.3, 0.01).seen == 2


def test_holm_counts_the_hypotheses_of_a_family_that_do_not_stand_any_more() -> None:
    assert holm(np.array([0.01, 0.04]), family=10) == pytest.approx([0.10, 0.36])
    assert holm(np.array([0.01, 0.04]), family=1) == pytest.approx(holm(np.array([0.01, 0.04])))


def test_a_mean_over_few_cases_is_never_shown_beyond_what_tosses_of_a_coin_could() -> None:
    assert mean_p(np.full((1, 4), 0.2)) == pytest.approx([2 / 2**4])
    assert mean_p(np.zeros((1, 4))) == pytest.approx([1])
    assert mean_p(np.full((1, 1), 0.2)) == pytest.approx([1])


def test_an_assumed_noise_counts_little_beside_a_measured_one() -> None:
    assumed, measured = Noise(0.03), Noise(0.03, squares=100 * 0.1**2, freedom=100)
    assert assumed.measured is None
    assert assumed.pooled(0.04) == pytest.approx(0.05)
    assert measured.measured == pytest.approx(0.1)
    assert measured.pooled(0.04) == pytest.approx(0.1, rel=0.02)
    upper = measured.upper()
    assert upper is not None
    assert 0.1 < upper < 0.12


def test_with_an_assumed_noise_twice_the_throughput_is_not_enough_and_four_times_is() -> None:
    (twice,) = campaigns([model("old"), model("new", throughput=100)])
    (four,) = campaigns([model("old"), model("new", throughput=200)])
    assert difference(twice, "new", "output_tokens_per_s").superior is False
    assert (twice.winner, four.winner) == (None, "new")


def test_the_noise_that_was_measured_replaces_the_assumption_and_the_card_says_which_it_is() -> None:
    steady = [[model("old", 50 * factor), model("new", 67 * factor)] for factor in (1, 1.001, 0.999, 1.002)]
    first, *_, last = campaigns(*steady)
    assumed, measured = (next(n for n in d.noise if n.metric == "output_tokens_per_s") for d in (first, last))
    assert (assumed.measured, assumed.freedom) == (None, 0)
    assert measured.measured == pytest.approx(0.0013, abs=0.0003)
    assert measured.freedom == 6
    assert last.winner == "new"
    assert "3.0%, assumed; nothing was measured twice" in card.to_markdown(first, TIERS).replace("\\", "")
    assert "0.1%, measured here on the same weights" in card.to_markdown(last, TIERS).replace("\\", "")


def test_a_noisy_machine_is_believed_less() -> None:
    """Speeds that swing by a fifth from campaign to campaign: the same lead as above shows nothing."""
    swinging = [[model("old", 50 * factor), model("new", 67 / factor)] for factor in (1, 1.2, 0.83, 1.15, 0.9)]
    assert all(decision.winner is None for decision in campaigns(*swinging))


def test_answers_that_do_not_change_are_one_piece_of_evidence() -> None:
    unchanged = [[model("old"), model("new", wrong=1)]] * 4
    assert [difference(d, "new", "cove_pass_rate").looks for d in campaigns(*unchanged)] == [1, 1, 1, 1]
    assert [difference(d, "new", "ttft_ms.median").looks for d in campaigns(*unchanged)] == [1, 2, 3, 4]


def test_a_challenger_that_comes_later_has_a_smaller_share_of_alpha() -> None:
    old, early, late = model("old", wrong=12), model("early", wrong=12), model("late", wrong=0)
    together, alone = (
        campaigns([old, early, late]),
        campaigns([old, early], [old, early, late]),
    )
    first, second = (difference(d, "late", "cove_pass_rate").p_holm for d in (together[-1], alone[-1]))
    assert first is not None
    assert second is not None
    # The group is half as large, but has a quarter of the first group's share.
    assert second == pytest.approx(2 * first)


def test_a_life_ends_where_other_weights_serve() -> None:
    pool = [model("old"), model("new")]
    first, second, third = campaigns(pool, pool, pool, serving=("old", "old", "new"))
    assert [len(d.ledger.families) for d in (first, second, third)] == [1, 1, 1]
    assert third.ledger.incumbent != second.ledger.incumbent
    assert difference(second, "new", "ttft_ms.median").looks == 2
    assert difference(third, "old", "ttft_ms.median").looks == 1
    # What the machine's noise is does not depend on who serves.
    assert next(n.freedom for n in third.noise) == 4


def test_measurements_in_an_unknown_environment_repeat_nothing() -> None:
    pool = [model("old"), model("new")]
    unknown = pinned(pool, SEED).model_copy(
        update={
            "fingerprints": {},
            "candidates": tuple(
                one.model_copy(update={"fingerprint_sha256": None}) for one in pinned(pool, SEED).candidates
            ),
        }
    )
    decision = decide(run_id=RUN_ID, candidates=pool, policy=SEED, manifest=unknown, incumbent="old", tiers=TIERS)
    assert decision.ledger.repeats == {}
    assert pinned(pool, SEED).fingerprints[SIMULATED.digest()]
    assert all(one.freedom == 0 for one in decision.noise)


def test_a_challenger_that_is_shown_to_be_better_is_not_kept_out_by_the_score() -> None:
    """Ten times the throughput, a first token 0.3 % later and one case fewer: min-max makes that one win, two
    losses."""
    (decision,) = campaigns([model("old"), model("new", throughput=500, latency=100.3, wrong=6)])
    assert decision.candidates[0].version == "old"
    challenge = decision.candidate("new").challenge
    assert challenge is not None
    assert challenge.outdoes
    assert decision.winner == "new"


def test_where_both_are_shown_to_be_better_on_something_the_score_decides() -> None:
    traded = [[model("old"), model("new", throughput=65 + i * 0.01, latency=118 + i * 0.01)] for i in range(4)]
    decision = campaigns(*traded)[-1]
    challenge = decision.candidate("new").challenge
    assert challenge is not None
    assert (challenge.replaces, challenge.outdoes) == (True, False)
    assert decision.candidates[0].version == "old"
    assert decision.winner is None


def test_a_decision_with_a_ledger_is_repeated_byte_for_byte() -> None:
    pool = [model("old"), model("new", throughput=60)]
    *_, before = campaigns(pool, pool, pool)
    known = {one.tables[0].sha256: pool[0].tiers[one.tier] for one in before.ledger.anchors}
    ledger = Ledger.model_validate_json(before.ledger.model_dump_json())
    evidence = pinned(pool, SEED, nonce="again", ledger=with_previous(ledger, RUN_ID, before.digest()))
    again = [
        decide(
            run_id=RUN_ID,
            candidates=some,
            policy=SEED,
            manifest=evidence,
            incumbent="old",
            tiers=TIERS,
            anchored=dict(known),
        )
        for some in (pool, pool[::-1])
    ]
    assert again[0].to_json() == again[1].to_json()
    assert Decision.from_json(again[0].to_json()) == again[0]


class TestTheBestThatWasDeployed:
    """Each challenger is much faster and a little worse than the one before it, by less than the margin of 0.05."""

    FIRST, SECOND, THIRD = (
        model("first", wrong=0),
        model("second", throughput=500, wrong=3),
        model("third", throughput=5000, wrong=6),
    )

    def test_is_what_challengers_are_held_to_whoever_serves(self) -> None:
        first, second = campaigns([self.FIRST, self.SECOND], [self.SECOND, self.THIRD], serving=("first", "second"))
        assert first.winner == "second"
        # Against "second" alone, "third" is within the margin: 3 cases of 150 are fewer.
        assert difference(second, "third", "cove_pass_rate").non_inferior
        challenge = second.candidate("third").challenge
        assert challenge is not None
        assert not challenge.replaces
        assert challenge.why == (
            "it is not shown to be within the margin of the best that was deployed: cove_pass_rate of first"
        )
        assert "against first, the best deployed" in card.to_markdown(second, TIERS).replace("\\", "")

    def test_is_compared_as_it_is_measured_now_where_it_stands(self) -> None:
        pools = [self.FIRST, self.SECOND], [self.FIRST, self.SECOND, self.THIRD]
        *_, second = campaigns(*pools, serving=("first", "second"))
        challenge = second.candidate("third").challenge
        assert challenge is not None
        assert {one.against for one in challenge.anchored} == {"first"}
        assert not challenge.replaces

    def test_moves_only_to_a_model_that_is_shown_to_be_better_on_that_metric(self) -> None:
        pool = [self.FIRST, self.SECOND]
        *_, last = campaigns(pool, pool, pool, serving=("first", "second", "second"))
        assert {one.metric: one.version for one in last.ledger.anchors} == {
            "ttft_ms.median": "first",
            "output_tokens_per_s": "second",
            "cove_pass_rate": "first",
            "nDCG@10": "first",
        }

    def test_has_its_evidence_pinned(self) -> None:
        (first,) = campaigns([self.FIRST, self.SECOND], serving=("first",))
        ledger = with_previous(first.ledger, RUN_ID, first.digest())
        pool = [self.SECOND, self.THIRD]
        with pytest.raises(BadInput, match=r"figures that were not read: inference/first\.parquet"):
            decide(
                run_id=RUN_ID,
                candidates=pool,
                policy=SEED,
                manifest=pinned(pool, SEED, nonce="1", ledger=ledger),
                incumbent="second",
                tiers=TIERS,
            )


class TestTheRunBefore:
    RUNS = ("benchmark_20260111_142500", "benchmark_20260111_202500")

    def decided(self, runs: Path, run_id: str, ledger: Ledger | None = None) -> RunSummary:
        pool = [model("old"), model("new")]
        evidence = pinned(pool, SEED, nonce=run_id, ledger=ledger).model_copy(update={"run_id": run_id})
        known = {one.tables[0].sha256: pool[0].tiers[one.tier] for one in (ledger or Ledger()).anchors}
        decision = decide(
            run_id=run_id,
            candidates=pool,
            policy=SEED,
            manifest=evidence,
            incumbent="old",
            tiers=TIERS,
            anchored=known,
        )
        summary = RunSummary(run_id=run_id, decision=decision, manifest=evidence)
        write_summary(runs, summary)
        return summary

    def test_hands_its_ledger_on(self, tmp_path: Path) -> None:
        first, second = self.RUNS
        assert ledger_before(tmp_path, first) == Ledger()
        told = self.decided(tmp_path, first)
        ledger = ledger_before(tmp_path, second)
        assert ledger.previous is not None
        assert (ledger.previous.run_id, ledger.previous.decision_sha256) == (first, told.decision.digest())
        summary = self.decided(tmp_path, second, ledger)
        check_ledger(tmp_path, summary.manifest)
        assert difference(summary.decision, "new", "ttft_ms.median").looks == 2

    def test_is_not_forgotten_unnoticed(self, tmp_path: Path) -> None:
        first, second = self.RUNS
        self.decided(tmp_path, first)
        ledger = ledger_before(tmp_path, second).model_copy(update={"families": (), "challengers": {}})
        summary = self.decided(tmp_path, second, ledger)
        with pytest.raises(EvidenceMismatch, match=f"{second} goes on with another ledger than {first} handed on"):
            check_ledger(tmp_path, summary.manifest)

    def test_of_another_version_begins_a_ledger_that_says_so(self, tmp_path: Path) -> None:
        first, second = self.RUNS
        (tmp_path / f"{first}.json").write_text('{"decision": {"decision_version": 3}}')
        ledger = ledger_before(tmp_path, second)
        assert ledger.starts_because is not None
        summary = self.decided(tmp_path, second, ledger)
        assert any("cannot go on with it" in note for note in summary.decision.notes)
        assert summary.decision.ledger.starts_because is None

    def test_that_does_not_hold_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / f"{self.RUNS[0]}.json").write_text("{}")
        with pytest.raises(BadInput, match="does not hold"):
            ledger_before(tmp_path, self.RUNS[1])
