"""What canaries said of the incumbent: told beside the benchmark's figures, and good for one thing only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from milton_assets.selection import card
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision
from milton_assets.selection.life import with_previous
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.simulate import pinned, tables
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.field_evidence import FieldArm, FieldEvidence, FieldFinding
from milton_assets.vocabulary.ledger import Ledger
from tests.support.selection import RUN_ID, candidate
from tests.support.tiers import TIERS

SEED = load_policy("seed")
FIRST_ANCHORED = {"ttft_ms.median", "output_tokens_per_s", "cove_pass_rate", "nDCG@10"}


def model(version: str, throughput: float) -> Candidate:
    def about(value: float) -> tuple[float, float, float]:
        return value, value * 0.99, value * 1.01

    passed, ndcg = [True] * 147 + [False] * 3, [0.5, 0.6, 0.7] * 20
    quality = (0.98, 0.95, 0.99), (0.6, 0.57, 0.63)
    return candidate(version, about(100.0), about(throughput), *quality, passed=passed, ndcg_by_query=ndcg)


OLD, FAST = model("old", 50.0), model("fast", 500.0)


def finding(**changed: Any) -> FieldFinding:
    """`fast` went back beside `old` for its errors."""
    told: dict[str, Any] = {
        "canary": "canary_20260110_093000_000_0a1b2c",
        "sha256": "d" * 64,
        "signer": "SHA256:abc",
        "target": "kitchen",
        "challenger_version": "fast",
        "challenger_artefact": sha256_bytes(b"fast"),
        "beside": ("old",),
        "said": "go_back",
        "by_evidence": True,
        "why": "more of its requests end in errors than the incumbent's",
        "challenger": FieldArm(requests=400, erred=12, units=400, units_erred=12),
        "incumbent": FieldArm(requests=410, erred=1, units=410, units_erred=1),
        "since": datetime(2026, 1, 10, 9, 30, tzinfo=UTC),
        "until": datetime(2026, 1, 10, 12, 0, tzinfo=UTC),
    }
    return FieldFinding(**(told | changed))


LATER = {"canary": "canary_20260111_093000_000_0a1b2c", "until": datetime(2026, 1, 11, tzinfo=UTC)}


def decided(
    *findings: FieldFinding, incumbent: str = "fast", pool: tuple[Candidate, ...] = (OLD, FAST), **told: Any
) -> Decision:
    """A decision of a campaign whose model before was `old`, the first that was ever deployed."""
    before, known = Ledger(), {}
    field = _evidence(incumbent, *findings, **told)
    for campaign, (serving, evidence) in enumerate((("old", FieldEvidence()), (incumbent, field))):
        manifest = pinned(pool, SEED, nonce=f"{campaign}", ledger=before).model_copy(update={"field": evidence})
        known |= tables(pool, manifest)
        decision = decide(
            run_id=RUN_ID, candidates=pool, policy=SEED, manifest=manifest, incumbent=serving, tiers=TIERS,
            anchored=dict(known),
        )  # fmt: skip
        before = with_previous(decision.ledger, RUN_ID, decision.digest())
    return decision


def _evidence(version: str, *findings: FieldFinding, **told: Any) -> FieldEvidence:
    return FieldEvidence(version=version, findings=findings, **told)


def anchors(decision: Decision) -> dict[str, str]:
    return {one.metric: one.version for one in decision.ledger.anchors}


def test_weights_that_the_field_sent_back_do_not_become_the_best_that_was_deployed() -> None:
    assert anchors(decided())["output_tokens_per_s"] == "fast"
    decision = decided(finding())
    assert anchors(decision) == dict.fromkeys(FIRST_ANCHORED, "old")
    (reading,) = decision.field
    assert (reading.moves, reading.follows) == (True, "fast is no anchor")
    assert any("the field sent fast back (canary_20260110" in note for note in decision.notes)


def test_and_are_it_no_more_where_they_had_been_it_before_they_were_sent_back() -> None:
    against = finding(challenger_version="old", challenger_artefact=sha256_bytes(b"old"), beside=("older",))
    decision = decided(against, incumbent="old")
    assert anchors(decision) == {}
    (note,) = [note for note in decision.notes if "the field sent old back" in note]
    assert "it had been on output_tokens_per_s, ttft_ms.median, cove_pass_rate, nDCG@10" in note


@pytest.mark.parametrize(
    ("told", "follows"),
    [
        ([finding(signer=None)], "nothing: nobody signed it"),
        ([finding(by_evidence=False)], "nothing: a fact ended it, no evidence"),
        ([finding(challenger_artefact=None)], "nothing: which weights it judged is not known here"),
        (
            [finding(challenger_artefact="9" * 64)],
            "nothing: it judged other weights of that name, or those that serve are not known",
        ),
        ([finding(said="promote")], "nothing: it was not sent back"),
        ([finding(), finding(said="promote", **LATER)], "nothing: a later verdict says otherwise"),
        ([finding(challenger_version="newer", challenger_artefact=None, beside=("fast",))], "nothing: it judged newer"),
    ],
    ids=["unsigned", "by a fact", "unknown weights", "other weights", "promoted", "promoted later", "as incumbent"],
)
def test_any_other_verdict_is_told_with_why_it_moves_nothing(told: list[FieldFinding], follows: str) -> None:
    decision = decided(*told)
    assert anchors(decision) == anchors(decided())
    assert decision.field[-1].follows == follows
    assert not any(reading.moves for reading in decision.field)


def test_scores_and_tests_are_what_they_are_without_the_field() -> None:
    without, beside = decided(), decided(finding(said="promote"))
    assert [(one.version, one.score, one.gates) for one in beside.candidates] == [
        (one.version, one.score, one.gates) for one in without.candidates
    ]
    assert beside.ledger.families == without.ledger.families
    assert (beside.verdict, beside.winner) == (without.verdict, without.winner)


def test_the_card_tells_verdict_counts_error_rates_and_since_when() -> None:
    fleet = finding(
        target=None, devices=16, challenger=FieldArm(requests=800, erred=16, per_device=(0.01, 0.02, 0.02, 0.03)),
        incumbent=FieldArm(requests=2400, erred=0, per_device=(0.0,) * 12), **LATER,
    )  # fmt: skip
    page = card.to_markdown(decided(finding(), fleet), TIERS).replace("\\", "")
    assert "### What the field said of fast" in page
    assert "go back [more of its requests end in errors than the incumbent's]" in page
    assert "fast [12 of 400 requests; 3.0% [1.7%–5.2%]]" in page
    assert "old [1 of 410 requests; 0.2% [0.0%–1.4%]]" in page
    assert "kitchen [since 2026-01-10 09:30]" in page
    assert "fast [16 of 800 requests; 1.0% to 3.0% of a device's]" in page
    assert "16 devices [since 2026-01-10 09:30]" in page
    assert "They enter no score, no gate and no test" in page


def test_a_winner_that_the_field_sent_back_beside_the_incumbent_is_promoted_with_a_warning() -> None:
    decision = decided(finding(), incumbent="old")
    assert decision.winner == "fast"
    (warning,) = [note for note in decision.notes if note.startswith("the field sent fast back beside old before")]
    assert "look at it before it is deployed" in warning


def test_what_does_not_hold_and_what_is_left_out_is_noted() -> None:
    decision = decided(finding(), older=3, refused=("canary_1: it is signed by a stranger",))
    assert "a verdict of the field does not hold and counts for nothing: canary_1: it is signed by a stranger" in (
        decision.notes
    )
    assert "3 older verdicts of the field on fast are not told here" in decision.notes


def test_it_is_pinned_by_the_manifests_digest_and_written_in_the_decision() -> None:
    manifest = pinned([OLD], SEED)
    assert manifest.digest() != manifest.model_copy(update={"field": _evidence("fast", finding())}).digest()
    decision = decided(finding())
    assert Decision.from_json(decision.to_json()) == decision
    assert decision.to_json() == decided(finding()).to_json()


def test_what_the_field_said_of_another_model_than_the_incumbent_is_refused() -> None:
    manifest = pinned([OLD], SEED).model_copy(update={"field": _evidence("fast", finding())})
    with pytest.raises(BadInput, match="what the field said of fast, and old serves"):
        decide(run_id=RUN_ID, candidates=[OLD], policy=SEED, manifest=manifest, incumbent="old", tiers=TIERS)
    with pytest.raises(ValueError, match="compared others than newest"):
        _evidence("newest", finding())
