"""The best that was deployed, in another environment: when it is measured again, and what is held to it meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from milton_assets.selection import card
from milton_assets.selection.anchoring import Due, due
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision, Verdict
from milton_assets.selection.life import how_of, with_previous
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.simulate import SIMULATED, pinned, tables
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.evidence import AnchorEvidence, EvidencePin
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.ledger import ENVIRONMENTS_KEPT, Anchor, AnchorTable, Ledger
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.tier import TierResult
from tests.selection.test_incumbents_life import model
from tests.selection.test_selection_in_turn import beside
from tests.support.selection import RUN_ID
from tests.support.tiers import TIERS

SEED = load_policy("seed")
FIRST, SECOND = sha256_bytes(b"first"), sha256_bytes(b"second")
SPEEDS, QUALITY = ("ttft_ms.median", "output_tokens_per_s"), ("cove_pass_rate", "nDCG@10")


def built(candidate: Candidate, build: str) -> Candidate:
    """The candidate as a server of that build was measured."""
    there = SIMULATED.model_copy(update={"server": ServerFingerprint(name="scripted", build=build)})
    told = {"fingerprint": there.model_dump(mode="json")}
    return replace(candidate, tiers={tier: replace(one, provenance=told) for tier, one in candidate.tiers.items()})


def in_turn(candidate: Candidate, faster: float) -> Candidate:
    """The candidate with rounds in turn with `second`, in which it had that many times its throughput."""
    return beside(candidate, faster, weights=SECOND)


class Road:
    """Decisions in a row: each has the ledger of the one before, and every table that was ever pinned is kept."""

    def __init__(self) -> None:
        self.ledger, self.known, self.number = Ledger(), dict[str, TierResult](), 0

    def decide(
        self,
        *pool: Candidate,
        serving: str,
        anchors: tuple[AnchorEvidence, ...] = (),
        let_go: tuple[str, ...] = (),
    ) -> Decision:
        self.number += 1
        evidence = pinned(list(pool), SEED, nonce=str(self.number), ledger=self.ledger)
        self.known |= tables(list(pool), evidence)
        evidence = evidence.model_copy(update={"anchors": anchors, "anchors_let_go": let_go})
        one, other = (
            decide(
                run_id=RUN_ID,
                candidates=some,
                policy=SEED,
                manifest=evidence,
                incumbent=serving,
                tiers=TIERS,
                anchored=dict(self.known),
            )
            for some in (pool, pool[::-1])
        )
        assert one.to_json() == other.to_json()  # whatever is decided is decided again, byte for byte
        decision = one
        self.ledger = with_previous(decision.ledger, RUN_ID, decision.digest())
        return decision

    def measured_again(self, candidate: Candidate) -> AnchorEvidence:
        """What a campaign measured of an anchor's weights, whose tables are kept."""
        key, pins = NamedWeights("first", FIRST).anchor_key, []
        for tier in ("inference", "reasoning", "retrieval"):
            sha256 = sha256_bytes(f"{self.number}/{key}/{tier}".encode())
            self.known[sha256] = candidate.tiers[tier]
            pins.append(
                EvidencePin(
                    model_version=key,
                    tier=tier,
                    dagster_run_id="simulated",
                    storage_id=1,
                    data_version="1",
                    uri=f"{tier}/{key}.parquet",
                    sha256=sha256,
                )
            )
        return AnchorEvidence(
            version="first", artefact_sha256=FIRST, tiers=tuple(pin.tier for pin in pins), pins=tuple(pins)
        )


@pytest.fixture
def road() -> Road:
    """`first` served, and `second`, as good and five times as fast, took its place; both by a server of build 1."""
    road = Road()
    first, second = model("first"), model("second", throughput=250, latency=34)
    assert road.decide(built(first, "1"), built(second, "1"), serving="first").winner == "second"
    road.decide(built(first, "1"), built(second, "1"), serving="second")
    return road


def versions(decision: Decision) -> dict[str, str]:
    return {one.metric: one.version for one in decision.ledger.anchors}


def wanted(ledger: Ledger, build: str, *standing: str) -> tuple[Due, ...]:
    serves = built(model("second"), build)
    return due(ledger, SEED.incumbent, {tier: how_of(one) for tier, one in serves.tiers.items()}, {SECOND, *standing})


class TestWhenAnAnchorIsMeasuredAgain:
    def test_in_another_environment_once_and_by_the_tiers_that_it_is_the_best_on(self, road: Road) -> None:
        assert wanted(road.ledger, "1") == ()
        (one,) = wanted(road.ledger, "2")
        assert (one.weights, set(one.metrics)) == (NamedWeights("first", FIRST), set(QUALITY))
        assert set(one.tiers) == {"reasoning", "retrieval"}

    def test_not_where_it_is_a_candidate_or_serves_or_was_let_go(self, road: Road) -> None:
        assert wanted(road.ledger, "2", FIRST) == ()

    def test_not_by_a_tier_that_the_incumbent_was_not_measured_by(self, road: Road) -> None:
        assert due(road.ledger, SEED.incumbent, {}, set()) == ()
        assert due(road.ledger, None, {"reasoning": "0" * 64}, set()) == ()

    def test_no_more_once_it_was(self, road: Road) -> None:
        second = built(model("second", throughput=250), "2")
        again = road.measured_again(built(model("first"), "2"))
        decision = road.decide(second, serving="second", anchors=(again,))
        assert wanted(road.ledger, "2") == ()
        # And where what serves is asked in its own way, that it was measured beside it counts.
        for one in decision.ledger.anchors:
            if one.version == "first":
                assert [table.run_id for table in one.tables] == [RUN_ID, RUN_ID]
                assert one.measured(one.tables[-1].here) == one.tables[-1]

    def test_no_more_where_it_was_a_candidate_in_that_environment(self, road: Road) -> None:
        road.decide(built(model("first"), "2"), built(model("second", throughput=250), "2"), serving="second")
        assert wanted(road.ledger, "2") == ()
        assert wanted(road.ledger, "1") == ()


class TestAChallengerInANewEnvironment:
    def test_is_held_to_the_anchors_figures_of_this_environment(self, road: Road) -> None:
        """Build 2 answers worse for everybody: 6 cases fewer of the anchor's are no loss of the challenger's."""
        again = road.measured_again(built(model("first", wrong=11), "2"))
        pool = (
            built(model("second", throughput=250, wrong=11), "2"),
            built(model("third", throughput=3000, wrong=14), "2"),
        )
        decision = road.decide(*pool, serving="second", anchors=(again,))
        challenge = decision.candidate("third").challenge
        assert challenge is not None
        assert {one.against for one in challenge.anchored} == {"first"}
        assert challenge.replaces
        assert decision.winner == "third"
        note = next(note for note in decision.notes if note.startswith("challengers are held to first"))
        assert "server.build: '2' against '1'" in note
        assert "these stay pinned" in note
        assert f"as {RUN_ID} measured it" in card.to_markdown(decision, TIERS).replace("\\", "")

    def test_that_gives_up_more_than_a_margin_of_it_is_kept_out(self, road: Road) -> None:
        again = road.measured_again(built(model("first", wrong=0), "2"))
        pool = (
            built(model("second", throughput=250, wrong=5), "2"),
            built(model("third", throughput=3000, wrong=9), "2"),
        )
        decision = road.decide(*pool, serving="second", anchors=(again,))
        assert decision.verdict is Verdict.REJECT
        assert "cove_pass_rate of first" in decision.candidate("third").why

    def test_is_promoted_over_no_speed_that_it_cannot_be_held_to(self) -> None:
        """The best on speed is lost: whether the challenger is slower than it nobody can know."""
        road = Road()
        fast, good = model("first", wrong=12, throughput=500), model("second", wrong=0, throughput=490)
        road.decide(built(fast, "1"), built(good, "1"), serving="first")
        road.decide(built(fast, "1"), built(good, "1"), serving="second")
        assert versions(road.decide(built(good, "1"), serving="second"))["output_tokens_per_s"] == "first"
        lost = AnchorEvidence(version="first", artefact_sha256=FIRST, tiers=("inference",), missing="it is nowhere")
        pool = built(good, "2"), built(model("third", wrong=0, throughput=6000), "2")
        decision = road.decide(*pool, serving="second", anchors=(lost,))
        assert (decision.verdict, decision.winner) == (Verdict.NO_VERDICT, None)
        assert "third would replace second, but nobody can be held to first" in decision.reasons[-1]
        assert "it is nowhere" in decision.reasons[-1]
        assert any("name them in anchors_let_go" in note for note in decision.notes)
        # It stays the anchor, and is asked for again; until somebody lets it go.
        assert {one.weights.version for one in wanted(road.ledger, "2")} == {"first"}
        freed = road.decide(*pool, serving="second", anchors=(lost,), let_go=(FIRST,))
        assert freed.winner == "third"
        assert set(versions(freed).values()) == {"second"}
        assert any(f"anchors_let_go names its weights {FIRST}" in note for note in freed.notes)

    def test_has_its_speed_compared_through_what_both_were_timed_in_turn_with(self) -> None:
        """The anchor was measured alone while the machine was three times as fast; beside what serves it is slower."""
        road = Road()
        fast, good = model("first", wrong=12, throughput=500), model("second", wrong=0, throughput=490)
        road.decide(built(fast, "1"), built(good, "1"), serving="first")
        road.decide(built(fast, "1"), built(good, "1"), serving="second")
        drifted = built(model("first", wrong=12, throughput=2500), "2")
        apart = built(model("third", wrong=0, throughput=735), "2")
        for anchor, third, test, replaces in (
            (drifted, apart, "beyond noise", False),
            (in_turn(drifted, 0.9), in_turn(apart, 1.5), "rounds in turn", True),
        ):
            before = road.ledger
            again = road.measured_again(anchor)
            decision = road.decide(built(good, "2"), third, serving="second", anchors=(again,))
            road.ledger = before
            challenge = decision.candidate("third").challenge
            assert challenge is not None
            held = next(one for one in challenge.anchored if one.metric == "output_tokens_per_s")
            assert (held.test, held.non_inferior) == (test, replaces)
        assert held.difference == pytest.approx(1.5 / 0.9 - 1)

    def test_is_held_to_old_answers_to_the_same_cases_where_there_are_no_others(self, road: Road) -> None:
        lost = AnchorEvidence(version="first", artefact_sha256=FIRST, tiers=("reasoning",), missing="it is nowhere")
        pool = built(model("second", throughput=250), "2"), built(model("third", throughput=3000), "2")
        decision = road.decide(*pool, serving="second", anchors=(lost,))
        assert decision.winner == "third"
        assert any("as it answered in another environment" in note for note in decision.notes)


def test_of_an_anchors_tables_the_first_and_the_newest_are_kept() -> None:
    def table(number: int) -> AnchorTable:
        how = sha256_bytes(str(number).encode())
        return AnchorTable(how=how, here=how, run_id=RUN_ID, uri=f"{number}.parquet", sha256=how)

    anchor = Anchor(tier="reasoning", metric="cove_pass_rate", version="v1", artefact_sha256=FIRST, tables=(table(0),))
    for number in range(1, 12):
        anchor = anchor.with_table(table(number))
    assert [one.uri for one in anchor.tables] == ["0.parquet", *(f"{number}.parquet" for number in range(5, 12))]
    assert len(anchor.tables) == ENVIRONMENTS_KEPT
