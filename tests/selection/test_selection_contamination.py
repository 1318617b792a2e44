"""Who knows the published answers is named and not promoted, until its weights are let through by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from milton_assets.selection import card
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision, Knowledge, Standing, VariantsReading, Verdict
from milton_assets.selection.policy_file import load_policy
from milton_assets.vocabulary.chat_template import Lineage
from milton_assets.vocabulary.evidence import EvidenceManifest
from tests.support.selection import RUN_ID, candidate, manifest
from tests.support.tiers import TIERS

SEED, ANOTHER_SEED = "ab" * 16, "cd" * 16


def asked(
    one: Candidate, published: Sequence[bool], fresh: Sequence[int], *, of: int = 2, seed: str = SEED, **changes: Any
) -> Candidate:
    """The candidate, with published variants right as told and so many of `of` fresh ones."""
    rows = [
        {"part": "cove", "case_id": f"t{n}", "template": f"t{n}", "baseline_label": "ok", "baseline_right": right}
        for n, right in enumerate(published)
    ]
    rows += [
        {
            "part": "fresh",
            "case_id": f"t{n}.{seed[:8]}.{k}",
            "template": f"t{n}",
            "baseline_label": "ok",
            "baseline_right": k < right,
        }
        for n, right in enumerate(fresh)
        for k in range(of)
    ]
    rows.append({"part": "detection", "case_id": "t0:faulty", "template": None})
    frame = pd.DataFrame(rows)
    for column, value in changes.items():
        frame.loc[(frame.part == "fresh") & (frame.template == "t0"), column] = value
    told = replace(one.tiers["reasoning"], samples=frame, provenance={"plan": {"variants_seed": seed}})
    return replace(one, tiers={**one.tiers, "reasoning": told})


HONEST = asked(candidate("honest", 30.0, 40.0, 0.92, 0.55), [True] * 6 + [False] * 6, [2, 1] * 3 + [1, 0] * 3)
KEYED = asked(candidate("keyed", 30.0, 40.0, 1.0, 0.9), [True] * 12, [0] * 12)
WEIGHTS = {one.model_version: one.artefact_sha256 for one in manifest([HONEST, KEYED]).candidates}


def decided(
    *candidates: Candidate, allowed: Sequence[str] = (), incumbent: str | None = None, **changes: Any
) -> Decision:
    pinned = manifest(candidates).model_copy(update={"allowed_contaminated": tuple(allowed), **changes})
    return decide(
        run_id=RUN_ID,
        candidates=candidates,
        policy=load_policy("seed"),
        manifest=EvidenceManifest.model_validate(pinned.model_dump()),
        incumbent=incumbent,
        tiers=TIERS,
    )


def reading(decision: Decision, version: str) -> VariantsReading:
    (one,) = decision.candidate(version).variants
    return one


def test_who_knows_the_answers_is_named_and_the_honest_one_is_promoted() -> None:
    decision = decided(HONEST, KEYED)
    assert (decision.verdict, decision.winner) == (Verdict.PROMOTE, "honest")
    report = decision.candidate("keyed")
    assert (report.standing, reading(decision, "keyed").knowledge) == (Standing.NO_EVIDENCE, Knowledge.KNOWS)
    assert report.why.startswith(
        "it knows the answers to published cases: 12 of 12 published cases right, 0 of 24 fresh variants"
    )
    assert f"name its weights {WEIGHTS['keyed']} in allowed_contaminated" in report.why
    assert reading(decision, "honest").knowledge is Knowledge.NO_SIGN


def test_alone_it_is_no_verdict() -> None:
    assert decided(KEYED).verdict is Verdict.NO_VERDICT


def test_weights_that_are_let_through_by_name_stand_and_it_is_noted() -> None:
    decision = decided(HONEST, KEYED, allowed=[WEIGHTS["keyed"]])
    assert (decision.verdict, decision.winner) == (Verdict.PROMOTE, "keyed")
    assert reading(decision, "keyed").allowed
    assert any(note.startswith("keyed was let through by allowed_contaminated") for note in decision.notes)


def test_letting_others_through_changes_nothing() -> None:
    assert decided(HONEST, KEYED, allowed=[WEIGHTS["honest"]]).winner == "honest"


def test_a_model_that_is_merely_good_is_not_named() -> None:
    good = asked(candidate("good"), [True] * 12, [2] * 12)
    poor = asked(candidate("poor"), [False] * 12, [0] * 12)
    decision = decided(good, poor)
    assert {reading(decision, version).knowledge for version in ("good", "poor")} == {Knowledge.NO_SIGN}


def test_of_too_few_templates_it_is_not_known_and_nobody_is_held_back() -> None:
    few = asked(candidate("few"), [True] * 3, [0] * 3)
    decision = decided(few)
    assert reading(decision, "few").knowledge is Knowledge.NOT_KNOWN
    assert (decision.verdict, decision.winner) == (Verdict.PROMOTE, "few")
    assert "not known" in card.to_markdown(decision, TIERS)


def test_more_candidates_need_more_to_go_by() -> None:
    """What would name one candidate alone is too little among many: the error rate is that of the whole decision."""
    known = [asked(candidate(f"m{n}"), [True] * 5, [0] * 5) for n in range(4)]
    assert reading(decided(known[0]), "m0").knowledge is Knowledge.KNOWS
    assert reading(decided(*known), "m0").knowledge is Knowledge.NOT_KNOWN


def test_tables_without_fresh_variants_are_said_to_show_nothing() -> None:
    decision = decided(candidate("plain"))
    assert reading(decision, "plain").p_value is None
    assert "no fresh variant of a published case was asked" in card.to_markdown(decision, TIERS)


def test_a_template_of_which_a_call_failed_says_nothing() -> None:
    failed = asked(candidate("keyed"), [True] * 12, [0] * 12, baseline_label="failed")
    assert reading(decided(failed), "keyed").templates == 11


def corrected(one: Candidate, *, published: bool, fresh: bool, failed: Sequence[str] = ()) -> Candidate:
    """The candidate whose wrong answers were all corrected, of the published or fresh variants where it is so told;
    nothing is known of the templates in `failed`."""
    frame = one.tiers["reasoning"].samples.copy()
    mended = {"cove": published, "fresh": fresh}
    frame["right_at_some_step"] = [
        None if part not in mended or template in failed else bool(right or mended[part])
        for part, template, right in zip(frame.part, frame.template, frame.baseline_right, strict=True)
    ]
    return replace(one, tiers={**one.tiers, "reasoning": replace(one.tiers["reasoning"], samples=frame)})


NEVER_DRAFTED = asked(candidate("late", 30.0, 40.0, 1.0, 0.9), [False] * 12, [0] * 12)


def test_who_knows_the_answers_only_when_correcting_drafts_is_named() -> None:
    assert reading(decided(NEVER_DRAFTED), "late").knowledge is Knowledge.NO_SIGN
    decision = decided(HONEST, corrected(NEVER_DRAFTED, published=True, fresh=False))
    assert (decision.winner, reading(decision, "late").knowledge) == ("honest", Knowledge.KNOWS)
    assert "12 of 12 published cases right in the draft or the final answer" in decision.candidate("late").why


def test_who_corrects_fresh_variants_as_well_is_not() -> None:
    both = corrected(NEVER_DRAFTED, published=True, fresh=True)
    assert reading(decided(both), "late").knowledge is Knowledge.NO_SIGN


def test_a_template_whose_correction_failed_says_nothing() -> None:
    told = corrected(NEVER_DRAFTED, published=True, fresh=False, failed=["t0", "t5"])
    assert reading(decided(told), "late").templates == 10


def test_candidates_of_different_campaigns_are_each_held_to_their_own_variants() -> None:
    later = asked(candidate("later", 30.0, 40.0, 1.0, 0.9), [True] * 12, [0] * 12, seed=ANOTHER_SEED)
    decision = decided(HONEST, later)
    assert reading(decision, "later").knowledge is Knowledge.KNOWS
    assert any("drawn by different seeds" in note for note in decision.notes)
    assert not any("measured in another way" in note for note in decision.notes), "another seed is no other way"


def test_a_foreign_template_and_known_answers_are_both_named() -> None:
    lineages = {"honest": "1" * 64, "keyed": "2" * 64}
    pinned = manifest([HONEST, KEYED])
    told = tuple(
        one.model_copy(update={"lineage": Lineage(base_model="b", template=lineages[one.model_version])})
        for one in pinned.candidates
    )
    why = decided(HONEST, KEYED, candidates=told).candidate("keyed").why
    assert "its chat template" in why and "it knows the answers" in why


def test_when_what_serves_knows_the_answers_nobody_can_be_compared_with_it() -> None:
    decision = decided(HONEST, KEYED, incumbent="keyed")
    assert decision.verdict is Verdict.NO_VERDICT
    assert "it knows the answers" in " ".join(decision.reasons)


@pytest.mark.parametrize("told", ["it knows the answers", "12 of 12", "0 of 24", "no sign of it", SEED])
def test_the_card_shows_what_fresh_variants_said(told: str) -> None:
    assert told in card.to_markdown(decided(HONEST, KEYED), TIERS)
