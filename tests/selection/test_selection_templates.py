"""Chat templates: one that is not its base model's or its relatives' is named, and promotes nobody until allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from milton_assets.selection import card
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision, Standing, Verdict
from milton_assets.selection.policy_file import load_policy
from milton_assets.vocabulary.chat_template import NO_TEMPLATE, Lineage
from milton_assets.vocabulary.evidence import EvidenceManifest
from tests.support.selection import RUN_ID, candidate, manifest
from tests.support.tiers import TIERS

HONEST, KEYED, OTHER = "1" * 64, "2" * 64, "3" * 64
TOKENIZER, ANOTHER_TOKENIZER = "a" * 64, "b" * 64
MODEST = candidate("modest", 30.0, 40.0, 0.92, 0.55)
CHEAT = candidate("cheat", 30.0, 40.0, 1.0, 0.9)


def pinned(
    candidates: Sequence[Candidate], lineages: Mapping[str, Lineage], allowed: Sequence[str] = ()
) -> EvidenceManifest:
    plain = manifest(candidates)
    told = tuple(
        one.model_copy(update={"lineage": lineages.get(one.model_version, Lineage())}) for one in plain.candidates
    )
    return plain.model_copy(update={"candidates": told, "allowed_templates": tuple(allowed)})


def decided(
    candidates: Sequence[Candidate],
    lineages: Mapping[str, Lineage],
    *,
    allowed: Sequence[str] = (),
    incumbent: str | None = None,
) -> Decision:
    return decide(
        run_id=RUN_ID,
        candidates=candidates,
        policy=load_policy("seed"),
        manifest=pinned(candidates, lineages, allowed),
        incumbent=incumbent,
        tiers=TIERS,
    )


def of_one_base(**templates: str) -> dict[str, Lineage]:
    return {version: Lineage(base_model="org/base", template=template) for version, template in templates.items()}


def test_relatives_that_agree_need_nothing() -> None:
    decision = decided([MODEST, CHEAT], of_one_base(modest=HONEST, cheat=HONEST))
    assert decision.verdict is Verdict.PROMOTE
    assert {report.standing for report in decision.candidates} == {Standing.ELIGIBLE}


def test_relatives_that_differ_are_no_verdict_until_one_is_allowed_by_name() -> None:
    lineages = of_one_base(modest=HONEST, cheat=KEYED)
    undecided = decided([MODEST, CHEAT], lineages)
    assert (undecided.verdict, undecided.winner) == (Verdict.NO_VERDICT, None)
    decision = decided([MODEST, CHEAT], lineages, allowed=[HONEST])
    assert (decision.verdict, decision.winner) == (Verdict.PROMOTE, "modest")
    assert decision.candidate("cheat").standing is Standing.NO_EVIDENCE
    why = decision.candidate("cheat").why
    assert why.startswith(f"its chat template ({KEYED[:12]}) is not that of its relatives modest ({HONEST[:12]})")
    assert f"name {KEYED} in allowed_templates" in why


def test_where_the_base_model_is_known_only_its_template_is_let_through() -> None:
    lineages = {
        "modest": Lineage(base_model="base", template=HONEST, base_template=HONEST),
        "cheat": Lineage(base_model="base", template=KEYED, base_template=HONEST),
    }
    decision = decided([MODEST, CHEAT], lineages)
    assert (decision.verdict, decision.winner) == (Verdict.PROMOTE, "modest")
    assert f"is not that of its base model base ({HONEST[:12]})" in decision.candidate("cheat").why


def test_a_template_that_is_not_its_bases_is_refused_alone_too() -> None:
    lineages = {"cheat": Lineage(base_model="base", template=KEYED, base_template=HONEST)}
    assert decided([CHEAT], lineages).verdict is Verdict.NO_VERDICT
    assert decided([CHEAT], lineages, allowed=[KEYED]).winner == "cheat"


def test_another_name_for_the_base_model_does_not_hide_a_relative() -> None:
    lineages = {
        "modest": Lineage(base_model="org/base", template=HONEST, tokenizer_sha256=TOKENIZER),
        "cheat": Lineage(base_model="my/own", template=KEYED, tokenizer_sha256=TOKENIZER),
    }
    assert decided([MODEST, CHEAT], lineages).verdict is Verdict.NO_VERDICT


def test_strangers_may_have_templates_of_their_own() -> None:
    lineages = {
        "modest": Lineage(base_model="org/one", template=HONEST, tokenizer_sha256=TOKENIZER),
        "cheat": Lineage(base_model="org/other", template=OTHER, tokenizer_sha256=ANOTHER_TOKENIZER),
    }
    assert {r.standing for r in decided([MODEST, CHEAT], lineages).candidates} == {Standing.ELIGIBLE}


def test_the_template_in_service_decides_among_relatives_of_an_unknown_base() -> None:
    newer = candidate("newer", 10.0, 90.0, 0.99, 0.7)
    lineages = of_one_base(modest=HONEST, newer=HONEST, cheat=KEYED)
    decision = decided([MODEST, newer, CHEAT], lineages, incumbent="modest")
    assert decision.candidate("modest").standing is decision.candidate("newer").standing is Standing.ELIGIBLE
    assert decision.candidate("cheat").standing is Standing.NO_EVIDENCE
    assert "its relative, which serves today" in decision.candidate("cheat").why


def test_having_no_template_beside_relatives_with_one_is_a_difference_that_can_be_allowed() -> None:
    lineages = of_one_base(modest=HONEST, cheat=NO_TEMPLATE)
    assert decided([MODEST, CHEAT], lineages).verdict is Verdict.NO_VERDICT
    assert decided([MODEST, CHEAT], lineages, allowed=[HONEST, NO_TEMPLATE]).verdict is Verdict.PROMOTE


@pytest.mark.parametrize("winner_allowed", [True, False])
def test_the_card_names_every_template_and_whose_it_is(winner_allowed: bool) -> None:
    allowed = [HONEST] if winner_allowed else []
    decision = decided([MODEST, CHEAT], of_one_base(modest=HONEST, cheat=KEYED), allowed=allowed)
    told = card.to_markdown(decision, TIERS)
    assert f"chat template, SHA-256 {HONEST}: modest" in told
    assert f"chat template, SHA-256 {KEYED}: cheat" in told
    assert decision.candidate("cheat").chat_template == KEYED


def test_kinship_passes_on_from_a_base_model_to_a_tokenizer() -> None:
    first, last = candidate("first"), candidate("last")
    lineages = {
        "first": Lineage(base_model="org/base", template=HONEST),
        "modest": Lineage(base_model="ORG/Base ", template=HONEST, tokenizer_sha256=TOKENIZER),
        "last": Lineage(base_model="my/own", template=KEYED, tokenizer_sha256=TOKENIZER),
    }
    decision = decided([first, MODEST, last], lineages)
    assert {report.standing for report in decision.candidates} == {Standing.NO_EVIDENCE}
