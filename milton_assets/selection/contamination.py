"""Who knows the answers: right on published cases beyond what fresh variants of the same templates bear out.

    found = readings(candidates, manifest, tiers)      # by version, a reading for each tier that asks fresh variants
    objections(found, manifest)                        # by version, why nothing is promoted on what is known by heart

What belongs here: reading that from the tables, testing it, and what stands in the way of a promotion. What does not:
the test (`statistics.variants`), drawing variants (the tiers), and what the answer does to a candidate (`gates`).

The p-values of one decision are corrected after Holm over every candidate and tier, so that in at most `KNOWS_AT` of
the decisions anybody is called one who knows the answers that does not. A candidate's two rates are of its own table,
so it does not matter whether others were measured under another seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decision import Knowledge, VariantsReading
from milton_assets.statistics.multiplicity import holm
from milton_assets.statistics.variants import KNOWS_AT, least_p, published_excess
from milton_assets.vocabulary.evidence import EvidenceManifest
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Tiers, VariantColumns

_P_DECIMALS = 12


@dataclass(frozen=True)
class _Counts:
    """Template by template: whether the published variant was right, and of how many fresh ones how many were.

    `at_some_step` is whether right means in any answer of a chain of steps, and not in its first alone.
    """

    published: tuple[bool, ...] = ()
    fresh_right: tuple[int, ...] = ()
    fresh: tuple[int, ...] = ()
    at_some_step: bool = False


_NOTHING = _Counts()


class _Answer(NamedTuple):
    """Whether an answer was right, and whether there was one."""

    right: bool
    given: bool


def readings(
    candidates: Sequence[Candidate], manifest: EvidenceManifest, tiers: Tiers
) -> dict[str, tuple[VariantsReading, ...]]:
    """What fresh variants say of each candidate, by version; nothing of one without evidence in a tier that asks
    them."""
    weights = manifest.weights
    asked = [
        (one.version, tier, result, _counts(result, columns))
        for one in candidates
        for tier, result in one.tiers.items()
        if tier in tiers and (columns := tiers[tier].variants) is not None
        if _seed(result) is not None or not columns.only_where_planned
    ]
    p_values = np.array(
        [published_excess(c.published, c.fresh_right, c.fresh) if c.fresh else np.nan for *_, c in asked]
    )
    tests = int(np.count_nonzero(~np.isnan(p_values)))
    found: dict[str, list[VariantsReading]] = {}
    for (version, tier, result, counts), p_value, p_holm in zip(
        asked, p_values.tolist(), holm(p_values).tolist(), strict=True
    ):
        here = found.setdefault(version, [])
        if not counts.fresh:
            here.append(_nothing_asked(tier, _seed(result)))
            continue
        knowledge = _knowledge(counts, p_holm, tests)
        here.append(
            VariantsReading(
                tier=tier,
                seed=_seed(result),
                templates=len(counts.fresh),
                published_right=sum(counts.published),
                fresh=sum(counts.fresh),
                fresh_right=sum(counts.fresh_right),
                p_value=round(p_value, _P_DECIMALS),
                p_holm=round(p_holm, _P_DECIMALS),
                knowledge=knowledge,
                allowed=knowledge is Knowledge.KNOWS and weights.get(version) in manifest.allowed_contaminated,
                why=_why(counts, p_holm, knowledge),
            )
        )
    return {version: tuple(each) for version, each in found.items()}


def objections(found: Mapping[str, Sequence[VariantsReading]], manifest: EvidenceManifest) -> dict[str, str]:
    """Why a candidate is not promoted, by version, of those who know the answers and were not let through."""
    weights = manifest.weights
    return {
        version: f"{'; '.join(one.why for one in known)}. Its figures on published cases are not those of a model that "
        f"thinks: measure it on a private set, or name its weights {weights[version]} in allowed_contaminated"
        for version, each in found.items()
        if (known := [one for one in each if one.knowledge is Knowledge.KNOWS and not one.allowed])
    }


def notes(found: Mapping[str, Sequence[VariantsReading]]) -> Iterator[str]:
    """Sentences for a careful reader: who was let through, and whose variants another seed drew."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for version, each in found.items():
        for one in each:
            if one.allowed:
                yield f"{version} was let through by allowed_contaminated: {one.why}"
            if one.seed is not None:
                seeds.setdefault((one.tier, one.seed), []).append(version)
    for tier in dict.fromkeys(tier for tier, _ in seeds):
        drawn = {seed: versions for (of, seed), versions in seeds.items() if of == tier}
        if len(drawn) > 1:
            told = "; ".join(f"{', '.join(versions[:5])} by {seed[:8]}" for seed, versions in drawn.items())
            yield f"fresh variants of {tier} were drawn by different seeds, in different campaigns: {told}"


@lru_cache
def _nothing_asked(tier: str, seed: str | None) -> VariantsReading:
    """Where no fresh variant was asked: the same for everybody."""
    return VariantsReading(
        tier=tier,
        seed=seed,
        templates=0,
        published_right=0,
        fresh=0,
        fresh_right=0,
        p_value=None,
        p_holm=None,
        knowledge=Knowledge.NOT_KNOWN,
        allowed=False,
        why="no fresh variant of a published case was asked, so it is not known whether it knows the answers",
    )


def _knowledge(counts: _Counts, p_holm: float, tests: int) -> Knowledge:
    if p_holm <= KNOWS_AT:
        return Knowledge.KNOWS
    return Knowledge.NOT_KNOWN if least_p(counts.fresh) * tests > KNOWS_AT else Knowledge.NO_SIGN


def _why(counts: _Counts, p_holm: float, knowledge: Knowledge) -> str:
    right = "right in the draft or the final answer" if counts.at_some_step else "right"
    told = (
        f"{sum(counts.published)} of {len(counts.published)} published cases {right}, {sum(counts.fresh_right)} of "
        f"{sum(counts.fresh)} fresh variants of the same templates (p = {p_holm:.2g} after Holm)"
    )
    match knowledge:
        case Knowledge.KNOWS:
            return f"it knows the answers to published cases: {told}"
        case Knowledge.NO_SIGN:
            return f"no sign that it knows the answers: {told}"
        case Knowledge.NOT_KNOWN:
            return f"too few templates to know whether it knows the answers: {told}"


def _counts(result: TierResult, columns: VariantColumns) -> _Counts:
    needed = (columns.template, columns.part, columns.right, columns.label)
    found = []
    for name in needed:
        if (column := result.column(name)) is None:
            return _NOTHING
        found.append(column)
    templates, parts, rights, labels = (column.to_pylist() for column in found)
    answers = [
        _Answer(bool(right), label not in columns.unanswered) for right, label in zip(rights, labels, strict=True)
    ]
    chained = _at_some_step(result, columns, parts)
    published: dict[str, _Answer] = {}
    fresh: dict[str, list[_Answer]] = {}
    for template, part, answer in zip(templates, parts, chained or answers, strict=True):
        if template is None:
            continue
        if part == columns.published:
            published[str(template)] = answer
        elif part == columns.fresh:
            fresh.setdefault(str(template), []).append(answer)
    answered = [
        (published[template].right, [one.right for one in others])
        for template, others in sorted(fresh.items())
        if template in published and all(one.given for one in (published[template], *others))
    ]
    return _Counts(
        tuple(right for right, _ in answered),
        tuple(sum(others) for _, others in answered),
        tuple(len(others) for _, others in answered),
        at_some_step=chained is not None,
    )


def _at_some_step(result: TierResult, columns: VariantColumns, parts: Sequence[Any]) -> list[_Answer] | None:
    """Each row's answer by all its steps; None where no fresh variant went through them."""
    column = None if columns.at_some_step is None else result.column(columns.at_some_step)
    if column is None:
        return None
    told = column.to_pylist()
    if all(right is None for right, part in zip(told, parts, strict=True) if part == columns.fresh):
        return None
    return [_Answer(bool(right), right is not None) for right in told]


def _seed(result: TierResult) -> str | None:
    plan = result.provenance.get("plan")
    seed = plan.get("variants_seed") if isinstance(plan, Mapping) else None
    return str(seed) if seed is not None else None
