"""Rounds in turn with what serves: what they show at once, what they do not cancel, and where there are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from milton_assets.selection import card
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Between, Decision
from milton_assets.selection.life import with_previous
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.simulate import pinned, tables
from milton_assets.statistics.spending import combined_freedom
from milton_assets.vocabulary.beside import Beside, RoundPair
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.ledger import Ledger
from milton_assets.vocabulary.tier import TierResult
from tests.selection.test_incumbents_life import decided, difference, model
from tests.support.selection import RUN_ID
from tests.support.tiers import TIERS

TTFT, RATE = "ttft_ms.median", "output_tokens_per_s"
STEADY = (1.0, 1.004, 0.997, 1.002, 0.999, 1.003, 0.996, 1.001, 0.998, 1.0)
OLD = sha256_bytes(b"old")
"""The weights of the version `old`, as the simulated manifests pin them."""


def beside(
    one: Candidate, faster: float, *, weights: str = OLD, jitter: Sequence[float] = STEADY, because: str | None = None
) -> Candidate:
    """The candidate with rounds in turn in which it had `faster` times the incumbent's throughput, and its TTFT."""
    rounds = tuple(
        RoundPair(mine={TTFT: 100 * j, RATE: 50 * faster * j}, theirs={TTFT: 100 / j, RATE: 50 / j}) for j in jitter
    )
    stated = Beside(version="old", artefact_sha256=weights, rounds=() if because else rounds, because=because)
    timed = one.tiers["inference"]
    told = replace(timed, provenance={**timed.provenance, "beside": stated.model_dump(mode="json")})
    return replace(one, tiers={**one.tiers, "inference": told})


def chain(*pools: list[Candidate]) -> list[Decision]:
    """One decision after the other while `old` serves, each with the ledger of the one before."""
    ledger, decisions = Ledger(), []
    known: dict[str, TierResult] = {}
    for number, pool in enumerate(pools):
        decision = decided(pool, "old", str(number), ledger, load_policy("seed"), known)
        decisions.append(decision)
        ledger = with_previous(decision.ledger, RUN_ID, decision.digest())
    return decisions


def test_half_as_much_throughput_again_is_shown_at_once_in_turn_and_not_across_campaigns() -> None:
    (apart,) = chain([model("old"), model("new", throughput=75)])
    (turned,) = chain([model("old"), beside(model("new", throughput=75), 1.5)])
    assert (apart.winner, turned.winner) == (None, "new")
    assert difference(turned, "new", RATE).test == "rounds in turn"
    assert difference(apart, "new", RATE).test == "beyond noise"


def test_the_difference_is_that_of_the_rounds_whatever_drifted_between_the_two_own_measurements() -> None:
    """Alone, the challenger was measured while the machine was twice as fast."""
    (decision,) = chain([model("old"), beside(model("new", throughput=100, latency=50), 1.0)])
    found = difference(decision, "new", RATE)
    assert found.difference == pytest.approx(0, abs=1e-4)
    assert not found.superior
    assert decision.winner is None


def test_rounds_with_other_weights_than_serve_are_not_counted_and_a_note_says_so() -> None:
    (decision,) = chain([model("old"), beside(model("new", throughput=75), 1.5, weights="9" * 64)])
    assert difference(decision, "new", RATE).test == "beyond noise"
    assert (
        f"{TTFT} and {RATE} of new and of old are compared across campaigns and not in rounds in turn: it was measured "
        "beside old, whose weights do not serve any more"
    ) in decision.notes


def test_where_there_was_no_room_for_both_a_note_says_so() -> None:
    why = "old needs 9.0 GB beside the model under test, and 1.0 GB are free"
    (decision,) = chain([model("old"), beside(model("new"), 1.0, because=why)])
    assert any(note.endswith(f"not in rounds in turn: {why}") for note in decision.notes)
    assert difference(decision, "new", RATE).test == "beyond noise"


def test_what_rounds_do_not_cancel_is_assumed_until_the_same_two_were_measured_in_turn_again() -> None:
    pools = [[model("old"), beside(model("new"), factor)] for factor in (1.0, 1.1, 0.9)]
    first, _, last = chain(*pools)
    assumed, measured = (
        next(n for n in d.noise if (n.metric, n.between) == (RATE, Between.STARTS)) for d in (first, last)
    )
    assert (assumed.measured, assumed.assumed) == (None, pytest.approx(0.03 * math.sqrt(2) / 3))
    assert measured.freedom == 2
    assert measured.measured == pytest.approx(0.1, rel=0.05)
    assert f"noise of {RATE} against old in rounds in turn, from start to start: 1.4%, assumed" in card.to_markdown(
        first, TIERS
    ).replace("\\", "")


def test_starts_that_differ_much_are_believed_less_than_their_steady_rounds_say() -> None:
    swinging = [[model("old"), beside(model("new", throughput=75), 1.5 * f)] for f in (1, 1.3, 0.75, 1.35, 0.7)]
    intervals = [difference(decision, "new", RATE).interval for decision in chain(*swinging)]
    assert intervals[0] is not None
    assert intervals[-1] is not None
    assert intervals[-1].high - intervals[-1].low > 3 * (intervals[0].high - intervals[0].low)


def test_rounds_in_turn_do_not_mend_what_campaigns_before_them_showed_apart() -> None:
    """What drifts slowly looks the same in every campaign: the mean over both kinds is less sure than the rounds."""
    apart = [model("old"), model("new", throughput=60)]
    turned = [model("old"), beside(model("new", throughput=60), 1.2)]

    def width(*pools: list[Candidate]) -> float:
        interval = difference(chain(*pools)[-1], "new", RATE).interval
        assert interval is not None
        return interval.high - interval.low

    assert 1.5 * width(turned, turned) < width(apart, turned)


def test_the_same_rounds_are_one_piece_of_evidence_though_the_incumbent_is_measured_again() -> None:
    pool, seed = [model("old"), beside(model("new"), 1.1)], load_policy("seed")
    first = decided(pool, "old", "first", Ledger())
    again = pinned(pool, seed, nonce="second", ledger=with_previous(first.ledger, RUN_ID, first.digest()))
    kept = pinned(pool, seed, nonce="first").candidate("new")
    again = again.model_copy(update={"candidates": (again.candidate("old"), kept)})
    known = tables(pool, pinned(pool, seed, nonce="first"))
    second = decide(
        run_id=RUN_ID, candidates=pool, policy=seed, manifest=again, incumbent="old", tiers=TIERS, anchored=known
    )
    assert difference(second, "new", RATE).looks == 1


def test_a_decision_on_rounds_in_turn_is_repeated_byte_for_byte() -> None:
    pool = [model("old"), beside(model("new", throughput=60), 1.2), beside(model("other"), 0.9)]
    evidence, seed = pinned(pool, load_policy("seed")), load_policy("seed")
    again = [
        decide(run_id=RUN_ID, candidates=some, policy=seed, manifest=evidence, incumbent="old", tiers=TIERS).to_json()
        for some in (pool, pool[::-1])
    ]
    assert again[0] == again[1]
    assert Decision.from_json(again[0]).to_json() == again[0]


def test_a_part_that_is_hardly_known_is_not_outvoted_by_one_that_is_known_well() -> None:
    halves = combined_freedom(np.array([math.sqrt(2)]), np.array([1.0]), np.array([19.0]), 2)
    assert halves == pytest.approx(2 / (1 / 19 + 1 / 2))
    satterthwaite = 4 / (1 / 19 + 1 / 2)
    assert halves < satterthwaite
