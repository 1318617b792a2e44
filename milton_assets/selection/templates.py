"""Whose chat template stands in the way of a promotion, and why.

What belongs here: holding each candidate's template against its base model's and its relatives'. What does not: reading
templates, and what the answer does to a candidate (`gates`).

A chat template is code that sees every prompt: the same weights with an answer key in it pass tests that they would
fail. So it must be the base model's, where that is known; else what the relatives among the candidates have; or be one
that the operator allowed by its digest. Relatives are candidates that name the same base model, or whose tokenizer is
the same. Where they differ and no base is known, the template of the model in service decides among them, since it was
let through before; without one, none of theirs is trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from milton_assets.selection.explain import some
from milton_assets.vocabulary.chat_template import NO_TEMPLATE
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.evidence import CandidateEvidence, EvidenceManifest


def objections(manifest: EvidenceManifest, incumbent: str | None) -> dict[str, str]:
    """Why a candidate's template keeps it from being promoted, by version; empty when all templates may be used."""
    found = {}
    for family in _families(manifest.candidates):
        templates = {one.lineage.template for one in family}
        trusted = next((one.lineage.template for one in family if one.model_version == incumbent), None)
        for one in family:
            if one.lineage.template in manifest.allowed_templates:
                continue
            if (why := _objection(one, family, templates, trusted, incumbent)) is not None:
                found[one.model_version] = (
                    f"its chat template ({_name(one.lineage.template)}) {why}; a template sees every prompt and can "
                    f"answer in the model's place: compare them (`milton registry show {one.model_version}`), then "
                    f"name {one.lineage.template} in allowed_templates if it is right"
                )
    return found


def _objection(
    one: CandidateEvidence,
    family: Sequence[CandidateEvidence],
    templates: set[str],
    trusted: str | None,
    incumbent: str | None,
) -> str | None:
    mine, base = one.lineage.template, one.lineage.base_template
    if base is not None:
        if mine == base:
            return None
        return f"is not that of its base model {str(one.lineage.base_model)[:100]} ({_name(base)})"
    if len(templates) == 1 or mine == trusted:
        return None
    if trusted is not None:
        return f"is not that of {incumbent}, its relative, which serves today ({_name(trusted)})"
    others = [other for other in family if other.lineage.template != mine]
    whose = some([f"{other.model_version} ({_name(other.lineage.template)})" for other in others])
    return f"is not that of its relatives {whose}, and which of them is the base model's is not known"


def _families(candidates: Iterable[CandidateEvidence]) -> list[list[CandidateEvidence]]:
    """The candidates by kinship, which passes on: who shares a base model or a tokenizer with a relative is one."""
    members: dict[int, list[CandidateEvidence]] = {}
    family_of: dict[tuple[str, str], int] = {}
    for number, one in enumerate(candidates):
        members[number] = [one]
        traits = _traits(one)
        for joined in {family_of[trait] for trait in traits if trait in family_of}:
            members[number] += members.pop(joined)
            family_of |= {trait: number for trait, family in family_of.items() if family == joined}
        family_of |= dict.fromkeys(traits, number)
    return list(members.values())


def _traits(one: CandidateEvidence) -> list[tuple[str, str]]:
    lineage, traits = one.lineage, []
    if lineage.base_model is not None:
        traits.append(("base", lineage.base_model.strip().casefold()))
    if lineage.tokenizer_sha256 is not None:
        traits.append(("tokenizer", lineage.tokenizer_sha256))
    return traits


def _name(template: str) -> str:
    return "none" if template == NO_TEMPLATE else short(template)
