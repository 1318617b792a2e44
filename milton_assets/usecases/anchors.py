"""The anchors of a campaign: which are to be measured again, where their weights lie, and under which name they are.

    stands = Candidacy.of(registry.read(), kind, let_go=campaign.anchors_let_go)
    wanted = anchors_due(run_id, store, rule, incumbent, stands, tiers)
    entry = entry_of(NamedWeights.of(tag), registry, kind, state, targets, store)

What belongs here: what conductor, daemon and decision share of that. What does not: when an anchor is due and what is
made of its figures (`milton_assets.selection.anchoring`), and what the event log says of them
(`resources.gathering.gather_anchor`).

An anchor's weights are taken from where they can still be had, in this order: the registry, under whatever version; the
releases of targets on this machine; the bundles of the state folder; a bundle in the store where hosts meet. Whatever
is found has the digest that the ledger pins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from milton_assets.edge.deployment.layout import RELEASES
from milton_assets.edge.manifest import REGISTRY_ENTRY_FILE
from milton_assets.edge.release import read_document, read_manifest
from milton_assets.fleet.local import LocalTarget
from milton_assets.fleet.targets import Targets
from milton_assets.selection.anchoring import Due, due
from milton_assets.selection.comparability import how_they_differ
from milton_assets.selection.life import how_of
from milton_assets.selection.policy import IncumbentRule
from milton_assets.selection.summary import read_summary, run_ids
from milton_assets.usecases.past_ledger import ledger_before
from milton_assets.usecases.shared_bundles import bring
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import class_of
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.registry import (
    Artefact,
    ArtefactKind,
    EntryStatus,
    Registry,
    RegistryEntry,
    RegistryStore,
    RegistryUnreadable,
)
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.strict_json import parse_json
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Tiers
from resources.evidence_log import place_of
from resources.evidence_store import EvidenceFile, EvidenceStore
from resources.file_facts import FactsReader
from resources.registries.artefacts import NOT_HOLDING, directory_artefact, gguf_artefact


@dataclass(frozen=True)
class Candidacy:
    """Who stands now: the candidates' `versions`, and the weights that are `excused` from being measured as an anchor:
    the candidates' own, and those that challengers are held to no more."""

    versions: frozenset[str]
    excused: frozenset[str]

    @classmethod
    def of(cls, current: Registry, kind: ArtefactKind, *, let_go: Collection[str]) -> Self:
        """The candidates of the registry, by their artefacts of that kind; `let_go` are weights that hold nobody."""
        entries = current.candidates()
        weights = {artefact.sha256 for entry in entries if (artefact := entry.find(kind)) is not None}
        return cls(frozenset(entry.version for entry in entries), frozenset(weights | set(let_go)))


def anchors_due(
    run_id: str,
    store: EvidenceStore,
    rule: IncumbentRule | None,
    incumbent: str | None,
    stands: Candidacy,
    tiers: Tiers,
) -> tuple[Due, ...]:
    """The anchors that the decision `run_id` holds challengers to and that have no figures from the environment in
    which `incumbent` was measured last.

    Raises as `ledger_before`, and `EvidenceMismatch` for a table that does not hold.
    """
    if rule is None or incumbent not in stands.versions:
        return ()
    ledger = ledger_before(store.runs, run_id)
    if not ledger.anchors:
        return ()
    here = {}
    for tier in {margin.tier for margin in rule.margins}:
        if (table := _latest(store, tier, str(incumbent), run_id, tiers)) is not None:
            here[tier] = how_of(table)
    return due(ledger, rule, here, stands.excused)


def may_be_due(decisions: Iterable[str], store: EvidenceStore, stands: Candidacy) -> Iterator[str]:
    """A sentence for each anchor that is no candidate: it is measured, too, where the environment has changed, which is
    known once what serves was measured."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for run_id in decisions:
        for one in ledger_before(store.runs, run_id).anchors:
            if one.artefact_sha256 not in stands.excused:
                found.setdefault((one.version, one.tables[-1].run_id), {})[one.metric] = None
    for (version, run_id), metrics in found.items():
        yield (
            f"{version}, the best deployed on {' and '.join(metrics)}, is no candidate: it is measured once more, too, "
            f"if the environment is another than that of {run_id}"
        )


def what_differs(one: Due, run_id: str, store: EvidenceStore, incumbent: str | None, tiers: Tiers) -> str:
    """How the incumbent's environment differs from the one that the anchor was measured in last; empty where that is
    not known."""
    tier = next(iter(one.tiers))
    now = _latest(store, tier, incumbent, run_id, tiers) if incumbent is not None else None
    before = EvidenceFile(store, one.newest.uri, one.newest.sha256, "").read()
    return "" if now is None else how_they_differ(now, TierResult.from_table(before))


def _latest(store: EvidenceStore, tier: str, version: str, run_id: str, tiers: Tiers) -> TierResult | None:
    device_class = class_of(run_id) if tiers[tier].per_class else None
    file = store.latest(*place_of(tier, version, device_class))
    return None if file is None else TierResult.from_table(file.read())


def entry_of(
    named: NamedWeights,
    registry: RegistryStore,
    kind: ArtefactKind,
    state: StateDir,
    targets: Targets,
    store: EvidenceStore,
    *,
    allow_code: Collection[str],
) -> RegistryEntry:
    """An entry of that version with the anchor's weights, from wherever they can be had; `allow_code` are versions that
    may hold code.

    Raises `BadInput`, which says where they were looked for and what to do, when they can be had nowhere.
    """
    if (registered := _registered(named, registry, kind)) is not None:
        return registered
    lying = _Lying(named, kind, FactsReader(state), named.version in allow_code)
    for folder in (*_releases(targets), *_bundles(state)):
        if (found := lying.in_release(folder)) is not None:
            return found
    if (run_id := _bundled_by(named, store)) is not None and not store.is_here:
        bring(store, state.bundles, run_id=run_id, device_class=None)
        for folder in _bundles(state):
            if (found := lying.in_release(folder)) is not None:
                return found
    raise BadInput(
        f"the weights of {named.version}, {named.sha256}, can be had nowhere: no entry of {registry.uri}, no "
        f"bundle in {state.bundles} and no release of a target on this machine has them",
        expected=f"the {kind} that was the best ever deployed, which challengers are held to",
        remedy="register it again from a backup (`milton registry add`), as a candidate or retired; or let it go: name "
        "that SHA-256 in anchors_let_go",
    )


def _registered(named: NamedWeights, registry: RegistryStore, kind: ArtefactKind) -> RegistryEntry | None:
    """The entry of that version, if it has these weights still; else of any other that has."""
    for one in _judged(registry, named.version):
        if _has(one, named, kind):
            try:
                found: RegistryEntry = registry.entry(one.version).model_copy(update={"version": named.version})
                return found
            except RegistryUnreadable:
                raise
            except BadInput:  # its files are gone: whether others are left is still to be seen
                continue
    return None


def _judged(registry: RegistryStore, version: str) -> Iterator[RegistryEntry]:
    """The entry of that version first, where it holds, then all there are; no weights are fetched for it."""
    try:
        yield registry.judged(version)
    except RegistryUnreadable:
        raise
    except BadInput:  # it is gone, or does not hold
        pass
    yield from registry.read().entries.values()


def _has(entry: RegistryEntry, named: NamedWeights, kind: ArtefactKind) -> bool:
    artefact = entry.find(kind)
    return artefact is not None and artefact.sha256 == named.sha256


def _releases(targets: Targets) -> Iterator[Path]:
    for name in targets.names():
        target = targets.named(name)
        if isinstance(target, LocalTarget):
            yield from _folders(target.place.path / RELEASES)


def _bundles(state: StateDir) -> Iterator[Path]:
    yield from _folders(state.bundles)


def _folders(below: Path) -> Iterator[Path]:
    if below.is_dir():
        yield from (path for path in sorted(below.iterdir()) if path.is_dir() and not path.name.startswith("."))


@dataclass(frozen=True)
class _Lying:
    """An anchor's weights, looked for in releases."""

    named: NamedWeights
    kind: ArtefactKind
    facts: FactsReader
    allow_code: bool

    def in_release(self, folder: Path) -> RegistryEntry | None:
        """The entry that a release tells, with the artefact that lies in it; None for one that has other weights, or
        does not hold."""
        try:
            manifest = read_manifest(folder)
            if (manifest.artefact_sha256, manifest.artefact_kind) != (self.named.sha256, self.kind):
                return None
            artefact = self._artefact(folder / manifest.primary)
            entry = RegistryEntry.model_validate(parse_json(read_document(folder, REGISTRY_ENTRY_FILE), str(folder)))
        except NOT_HOLDING:
            return None
        if artefact.sha256 != self.named.sha256:
            return None
        changed = {"version": self.named.version, "artefacts": (artefact,), "status": EntryStatus.RETIRED}
        found: RegistryEntry = entry.model_copy(update=changed)
        return found

    def _artefact(self, path: Path) -> Artefact:
        if self.kind is ArtefactKind.GGUF:
            return gguf_artefact(path, self.facts)
        return directory_artefact(path, self.facts, allow_code=self.allow_code)


def _bundled_by(named: NamedWeights, store: EvidenceStore) -> str | None:
    """The newest run that made a bundle of these weights."""
    for run_id in reversed(run_ids(store.runs)):
        try:
            summary = read_summary(store.runs, run_id)
        except BadInput:  # one of an older format, say
            continue
        winner = summary.decision.winner
        if winner is None or summary.bundle is None:
            continue
        if summary.manifest.candidate(winner).artefact_sha256 == named.sha256:
            return run_id
    return None
