"""Who wins is known before how sure that is: what nobody asks for is not drawn."""

from __future__ import annotations

import numpy as np
import pytest

from milton_assets.selection.decide import decide
from milton_assets.selection.hearing import Heard, hear
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.simulate import CHALLENGER, INCUMBENT, RUN_ID, Design, TrueModel, campaign, pinned
from tests.support.tiers import TIERS

SAME = TrueModel(pass_rate=0.95)


def heard(name: str) -> Heard:
    policy, models = load_policy(name), [(INCUMBENT, SAME), (CHALLENGER, SAME.better("nDCG@10", 0.2))]
    stood = campaign(np.random.default_rng(1), models, Design())
    return hear(
        run_id=RUN_ID,
        candidates=stood,
        policy=policy,
        manifest=pinned(stood, policy),
        incumbent=INCUMBENT,
        tiers=TIERS,
    )


@pytest.mark.parametrize(("name", "drawn"), [("seed", False), ("anchored", True)])
def test_a_winner_is_known_without_the_draws_unless_the_policy_asks_how_sure_it_is(name: str, *, drawn: bool) -> None:
    one = heard(name)
    assert one.winner == CHALLENGER
    assert one.ledger.anchors
    assert ("shares" in vars(one.contest)) is drawn


def test_the_record_says_of_the_winner_what_was_heard() -> None:
    one = heard("seed")
    decision = decide(
        run_id=RUN_ID,
        candidates=one.stood,
        policy=one.policy,
        manifest=one.manifest,
        incumbent=INCUMBENT,
        tiers=TIERS,
    )
    assert (decision.verdict, decision.winner, decision.ledger) == (one.verdict, one.winner, one.ledger)
    assert decision.candidate(CHALLENGER).challenge == one.challenge(CHALLENGER)
    assert decision.candidate(CHALLENGER).probability_best is not None
