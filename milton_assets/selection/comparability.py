"""Whether tables may be compared: on the goldens that the manifest pins, made the same way, in one environment.

What belongs here: reading that from what the tables say of themselves, and the sentences about differences. What does
not: lining up cases (`cases`) and what follows from a difference (`decide`).

Figures on other goldens than the pinned ones answer another question: they are invalid. Tables that were made in
another way (plan, prompts, code, pools, sampling, load, cache) are compared, but not case by case, and the decision
says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.explain import some
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.evidence import EvidenceManifest
from milton_assets.vocabulary.fingerprint import Fingerprint
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Tiers

_SAYS_HOW = (
    "goldens",
    "plan",
    "prompts_version",
    "prompts_sha256",
    "code_version",
    "definitions_version",
    "pools_sha256",
    "judge",
    "sampling",
    "extra_body",
    "load",
    "cache",
)
_CHANGES_NO_FIGURE = {"concurrency", "variants_seed"}
"""Parts of a plan that follow the server's slots (the load of the inference tier is stated apart), and the seed of
fresh variants, which bear other ids under another seed and stand in figures of their own."""

_SHOWN = 5

Procedure = Mapping[str, Any]
"""How a table was made, as far as figures depend on it: what was asked, how, and how it was scored."""


def procedure(result: TierResult) -> Procedure:
    """How `result` was made; what a table does not state is left out."""
    stated = {name: result.provenance[name] for name in _SAYS_HOW if name in result.provenance}
    if isinstance(plan := stated.get("plan"), Mapping):
        stated["plan"] = {name: value for name, value in plan.items() if name not in _CHANGES_NO_FIGURE}
    return stated


def differences(one: Procedure, other: Procedure) -> str:
    """How two procedures differ, `name: this against that`, the first few."""
    mine, theirs = _flat(one), _flat(other)
    found = [
        f"{name}: {_plain(mine.get(name))} against {_plain(theirs.get(name))}"
        for name in dict.fromkeys((*mine, *theirs))
        if mine.get(name) != theirs.get(name)
    ]
    return "; ".join(found[:_SHOWN]) + (f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")


def how_they_differ(one: TierResult, other: TierResult) -> str:
    """How two tables of a tier were made differently: environments first, then procedures; empty where they were not
    as far as is known."""
    prints = (one.provenance.get("fingerprint"), other.provenance.get("fingerprint"))
    elsewhere = "" if None in prints or prints[0] == prints[1] else _environments_differ(*prints)
    return "; ".join(filter(None, (elsewhere, differences(procedure(one), procedure(other)))))


def on_pinned_goldens(candidate: Candidate, manifest: EvidenceManifest, tiers: Tiers) -> Candidate:
    """The candidate, with the figures of every tier invalid that was measured on other goldens than are pinned."""
    wrong: dict[str, list[str]] = {}
    for name, pinned in manifest.goldens.items():
        place = _stated_at(name, tiers)
        if place is None or (result := candidate.tiers.get(place[0])) is None:
            continue
        tier, file = place
        stated = (result.provenance.get("goldens") or {}).get(file)
        if stated != pinned and any(metric.status is Status.OK for metric in result.metrics):
            wrong.setdefault(tier, []).append(f"{file} was {_plain(stated)}, pinned is {_plain(pinned)}")
    if not wrong:
        return candidate
    judged = dict(candidate.tiers)
    for tier, problems in wrong.items():
        why = f"it was measured on other goldens: {'; '.join(problems)}; benchmark {candidate.version} again"
        metrics = tuple(m.invalidated(why) if m.status is Status.OK else m for m in judged[tier].metrics)
        judged[tier] = replace(judged[tier], metrics=metrics)
    return replace(candidate, tiers=judged)


def _stated_at(name: str, tiers: Tiers) -> tuple[str, str] | None:
    """The tier and the file name under which its tables state the golden of that name in the manifest.

    Only goldens that a figure rests on: None for descriptions of sets and the like. A file of a set of one's own is
    pinned as `TIER/FILE`.
    """
    tier, own, file = name.partition("/")
    if own:
        return tier, file
    shipped = tiers.golden(name)
    return (shipped[0].name, shipped[1].file) if shipped is not None and shipped[1].scored else None


def own_goldens(manifest: EvidenceManifest) -> tuple[str, ...]:
    """A sentence for each tier that was measured on sets of one's own: which files, with their digests."""
    files: dict[str, list[str]] = {}
    for name, sha256 in sorted(manifest.goldens.items()):
        tier, own, file = name.partition("/")
        if own:
            private = ", private" if name in manifest.private_goldens else ""
            files.setdefault(tier, []).append(f"{file} ({short(sha256)}{private})")
    return tuple(f"{tier} was measured on goldens of one's own: {', '.join(told)}" for tier, told in files.items())


def imported(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """A sentence for each evaluation that was not measured here: whose word it is that these weights answered."""
    found = []
    for candidate in candidates:
        for tier, result in candidate.tiers.items():
            told = result.provenance.get("evaluation")
            if isinstance(told, Mapping) and told.get("imported_at"):
                found.append(
                    f"{tier} of {candidate.version} was imported from a log of {_plain(told.get('package'))} "
                    f"{_plain(told.get('package_version'))} and not measured here: that its model "
                    f"{_plain(told.get('model_told'))} is {candidate.version} is the word of whoever imported it"
                )
    return tuple(found)


def notes(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """A sentence for each group of candidates, sorted by version, that was measured otherwise than the first."""
    return (
        *(note for tier in _tiers_of(candidates) for note in _made_otherwise(tier, candidates)),
        *_mixed(candidates),
    )


def _tiers_of(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Every tier that somebody was measured by, in the order of the evidence."""
    return tuple(dict.fromkeys(tier for candidate in candidates for tier in candidate.tiers))


def _made_otherwise(tier: str, candidates: Sequence[Candidate]) -> Iterable[str]:
    groups: list[tuple[Procedure, list[str]]] = []
    for candidate in candidates:
        if (result := candidate.tiers.get(tier)) is None:
            continue
        made = procedure(result)
        for known, versions in groups:
            if known == made:
                versions.append(candidate.version)
                break
        else:
            groups.append((made, [candidate.version]))
    for made, versions in groups[1:]:
        usual, first = groups[0]
        yield (
            f"{tier} of {some(versions)} was measured in another way than of {first[0]}, so the figures may not be "
            f"comparable: {differences(made, usual)}"
        )


def _mixed(candidates: Sequence[Candidate]) -> Iterable[str]:
    """Sentences about candidates whose own tiers were measured in different environments."""
    found: dict[str, list[str]] = {}
    for candidate in candidates:
        prints = {
            tier: raw for tier, result in candidate.tiers.items() if (raw := result.provenance.get("fingerprint"))
        }
        for tier, raw in prints.items():
            first = next(iter(prints))
            if raw != prints[first] and (how := _environments_differ(raw, prints[first])):
                words = f"{tier} was measured in another environment than {first}: {how}"
                found.setdefault(words, []).append(candidate.version)
    for words, versions in found.items():
        yield f"of {some(versions)}, {words}"


def _environments_differ(one: Any, other: Any) -> str:
    try:
        return "; ".join(Fingerprint.model_validate(one).comparable_with(Fingerprint.model_validate(other)))
    except ValidationError:
        return "one of them is not described in a known form"


def _flat(made: Procedure) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in made.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[name] = value
    return flat


def _plain(value: Any) -> str:
    if value is None:
        return "none stated"
    text = str(value)
    return short(text) if len(text) == 64 and " " not in text else text[:60]
