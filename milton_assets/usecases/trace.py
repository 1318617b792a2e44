"""The chain behind one deployment, every link verified, down to the weights.

    deployment → release → bundle → decision → evidence → registry entry → weights
             ↘ field verdicts

What belongs here: following the digests from one link to the next. What does not: how a link is checked, which the
packages that made it know, and printing.

The release is verified by its target, where it lies: on this machine, or on the device, which then tells what it found
and every document that the release carries. What a device tells is not taken for granted: its documents are held
against the manifest, that against the journal's entry, and what this machine keeps of how the release came to be
(`Records`) against all of it, file by file. A link that does not hold names each file that differs. A bundle or weights
that were moved away since are no break: the release holds both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

from dagster import DagsterInstance
from pydantic import ValidationError

from milton_assets.edge.bundle.source import find_source
from milton_assets.edge.deployment import Deployment, Outcome, Verification
from milton_assets.edge.manifest import (
    DECISION_FILE,
    EVIDENCE_FILE,
    MANIFEST_FILE,
    REGISTRY_ENTRY_FILE,
    SIGNATURE_FILES,
    SUMMARY_FILE,
    BundleManifest,
    parse_manifest,
)
from milton_assets.edge.release import VerificationReport, read_manifest, verify_release
from milton_assets.edge.release.chain import bundled_artefact_sha256
from milton_assets.fleet.canaries import DoesNotHold, KeptVerdict, kept_verdicts, problems_of, signature_problems
from milton_assets.fleet.target import Target, is_here
from milton_assets.rollout.arms_kept import KeptFleetVerdict, kept_fleet_verdicts
from milton_assets.selection.summary import (
    BundleRecord,
    DeploymentRecord,
    ReportRecord,
    RunSummary,
    as_decided,
    read_summary,
)
from milton_assets.usecases.field_evidence import changed_since
from milton_assets.usecases.golden_links import broken_goldens, notes_on_goldens
from milton_assets.vocabulary.digest import sha256_bytes, sha256_file, sha256_json, short
from milton_assets.vocabulary.documents import Documents
from milton_assets.vocabulary.entry_paths import placed
from milton_assets.vocabulary.entry_table import entry_from_table
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.evidence import CandidateEvidence, EvidenceManifest
from milton_assets.vocabulary.registry import RegistryEntry, RegistryStore
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.strict_json import parse_json
from resources.evidence_log import check_manifest, logged_decision, logged_entry
from resources.evidence_store import EvidenceStore


@dataclass(frozen=True)
class Records:
    """What this machine keeps of how releases came to be.

    `goldens` gives the digests of the goldens as they are now, `known` every deployment of any target by its id.
    """

    state: StateDir
    store: EvidenceStore
    instance: DagsterInstance
    goldens: Callable[[], Mapping[str, str]]
    known: Mapping[str, Deployment]
    registry: RegistryStore


@dataclass(frozen=True)
class Link:
    """One link of the chain: what it is, which one, its digest, and whether it leads to the next unbroken."""

    what: str
    which: str
    digest: str | None
    holds: bool
    detail: str


@dataclass(frozen=True)
class Chain:
    """The links in order, from the deployment to the weights, and then what the field said of the release."""

    links: tuple[Link, ...]

    @property
    def holds(self) -> bool:
        """Whether no link is broken."""
        return all(link.holds for link in self.links)

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {"holds": self.holds, "links": [asdict(link) for link in self.links]}


def trace(deployment: Deployment, target: Target, records: Records) -> Chain:
    """Follow the deployment on `target` to the weights, and to the verdicts of the canaries that its release was in.

    A broken link is said to be broken and the next is still tried, unless what leads there cannot be read. Raises as
    `Target.verify`.
    """
    return Chain((*_links(deployment, target, records), *_field_links(deployment, records)))


def _links(deployment: Deployment, target: Target, records: Records) -> Iterator[Link]:
    committed = deployment.outcome is Outcome.COMMITTED
    yield Link(
        "deployment",
        deployment.id,
        deployment.journal_sha256,
        committed,
        f"{deployment.outcome} on {deployment.target} by {deployment.actor}, {deployment.started_at:%Y-%m-%d %H:%M} UTC"
        + ("" if committed else f": {deployment.reason}"),
    )
    folder = deployment.release_path
    if deployment.release is None or folder is None:
        yield Link("release", deployment.bundle or "unknown", None, False, "the attempt ended before one was there")
        return
    found = target.verify(deployment.release)
    release = _Release(folder, found, target.documents(deployment.release))
    if release.manifest is None:
        damage = release.damage() or (f"{folder / MANIFEST_FILE} is missing, or is no manifest",)
        yield _link("release", str(folder), deployment.release, damage, "")
        return
    manifest = release.manifest
    yield _link(
        "release",
        str(folder),
        manifest.release_digest,
        _release_problems(deployment, release, manifest),
        f"{found.files} files, {found.size_bytes} bytes read at {target.url} and equal to their digests",
    )
    # A device's path to the bundle is no path of this machine.
    told = deployment.bundle_path if is_here(target) else None
    source = Path(told) if told else records.state.bundles / manifest.name
    there = source.is_dir()
    yield _link(
        "bundle",
        manifest.name,
        manifest.release_digest,
        _bundle_problems(source, release, manifest) if there else (),
        f"{source} holds the same files" if there else f"{source} is absent; the release holds the same files",
    )
    try:
        grounds = _BundledDocuments.read(release, manifest, records.state)
    except MiltonError as error:
        yield Link("decision", manifest.run_id, manifest.decision_sha256, False, str(error))
        return
    yield from _grounds_links(deployment, source, manifest, grounds, records)


@dataclass(frozen=True)
class _Release:
    """A release as its target tells of it: where it lies there, what was found, and its documents' bytes by name."""

    path: Path
    found: Verification
    documents: Mapping[str, bytes]

    @property
    def manifest(self) -> BundleManifest | None:
        """What it says of itself; None where that does not hold."""
        try:
            return parse_manifest(self.documents[MANIFEST_FILE])
        except (KeyError, BadInput):
            return None

    def damage(self) -> tuple[str, ...]:
        """What the target found. A problem of the whole release names its folder, one of a file the file in it."""
        return tuple(said if str(self.path) in said else f"{self.path}/{said}" for said in self.found.problems)

    def digest(self, name: str) -> str | None:
        """The SHA-256 of one of its documents; None where it has none."""
        return sha256_bytes(self.documents[name]) if name in self.documents else None

    def document(self, name: str, manifest: BundleManifest) -> bytes:
        """The bytes of a listed document, which are those that the manifest lists. Raises `BadInput`."""
        if name not in self.documents:
            raise BadInput(f"{self.path / name} cannot be read", expected="the document as bundled")
        for problem in _differ(self.path / name, self.digest(name), manifest.file(name).sha256):
            raise BadInput(problem)
        return self.documents[name]


def _link(what: str, which: str, digest: str | None, problems: Iterable[str], holding: str) -> Link:
    """A link that holds when nothing is wrong, told as `holding`; else told as everything that is wrong."""
    found: list[str] = []
    try:
        found.extend(problems)
    except (MiltonError, OSError) as error:
        found.append(str(error))
    return Link(what, which, digest, not found, "; ".join(found) or holding)


def _differ(what: object, found: object, expected: object) -> Iterator[str]:
    if found != expected:
        yield f"{what} is {'missing' if found is None else found}, expected was {expected}"


# Release and bundle


def _damage(report: VerificationReport) -> Iterator[str]:
    return (f"{report.path / problem.path}: {problem.detail}" for problem in report.problems)


def _release_problems(deployment: Deployment, release: _Release, manifest: BundleManifest) -> Iterator[str]:
    yield from release.damage()
    yield from _differ(release.path, manifest.release_digest, deployment.release)
    yield from _differ(release.path, release.found.release, deployment.release)
    yield from _differ(release.path / MANIFEST_FILE, release.digest(MANIFEST_FILE), deployment.manifest_sha256)


def _bundle_problems(bundle: Path, release: _Release, manifest: BundleManifest) -> Iterator[str]:
    report = verify_release(bundle)
    yield from _damage(report)
    if report.manifest is not None:
        yield from _differ(bundle / MANIFEST_FILE, report.manifest.release_digest, manifest.release_digest)
    for name in sorted(SIGNATURE_FILES):
        bundled = bundle / name
        yield from _differ(f"{bundled}, beside {release.path / name},", _digest(bundled), release.digest(name))


def _digest(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() else None


# What the field said

_FIELD = "field verdict"


def _field_links(deployment: Deployment, records: Records) -> Iterator[Link]:
    if deployment.release is None:
        return
    for one in kept_verdicts(records.state, deployment.release):
        if isinstance(one, DoesNotHold):
            yield Link(_FIELD, one.canary, None, False, one.why)
        else:
            problems = problems_of(records.state, one)
            yield _field_link(one.verdict.told.plan.id, one.verdict.said, one, problems)
    for fleets in kept_fleet_verdicts(records.state, deployment.release):
        if isinstance(fleets, DoesNotHold):
            yield Link(_FIELD, fleets.canary, None, False, fleets.why)
        else:
            problems = signature_problems(records.state, fleets.path, fleets.signer)
            yield _field_link(fleets.verdict.plan.id, fleets.verdict.said, fleets, problems)


def _field_link(canary: str, said: str, kept: KeptVerdict | KeptFleetVerdict, problems: Iterable[str]) -> Link:
    signed = "signed by nobody" if kept.signer is None else f"signed by {kept.signer}"
    return _link(_FIELD, canary, kept.sha256, problems, f"{said}; {signed}")


# What the decision rests on


@dataclass(frozen=True)
class _BundledDocuments:
    """The release's documents."""

    decision: dict[str, Any]
    summary: RunSummary
    evidence: EvidenceManifest
    candidate: CandidateEvidence
    entry: RegistryEntry

    @classmethod
    def read(cls, release: _Release, manifest: BundleManifest, state: StateDir) -> Self:
        """Read them, the entry's artefacts where they lie in `state` now.

        Raises `BadInput` naming the document that does not hold.
        """

        def document(name: str) -> Any:
            return parse_json(release.document(name, manifest), name)

        name = DECISION_FILE
        try:
            decision = dict(document(name))
            summary = RunSummary.model_validate(document(name := SUMMARY_FILE))
            evidence = EvidenceManifest.model_validate(document(name := EVIDENCE_FILE))
            entry = RegistryEntry.model_validate(document(name := REGISTRY_ENTRY_FILE))
            return cls(decision, summary, evidence, evidence.candidate(manifest.model_version), placed(entry, state))
        except (ValidationError, ValueError, TypeError, BadInput) as error:
            raise BadInput(
                f"{release.path / name} does not hold: {error}", expected="the document as bundled"
            ) from error


def _grounds_links(
    deployment: Deployment, source: Path, manifest: BundleManifest, grounds: _BundledDocuments, records: Records
) -> Iterator[Link]:
    decision = grounds.decision
    yield _link(
        "decision",
        manifest.run_id,
        sha256_json(decision),
        _decision_problems(deployment, source, manifest, grounds, records),
        f"{decision.get('verdict')} {decision.get('winner')} under policy {manifest.policy_name}",
    )
    yield _link(
        "evidence",
        grounds.evidence.run_id,
        grounds.evidence.digest(),
        _evidence_problems(deployment, manifest, grounds, records),
        "; ".join(
            [
                f"{len(grounds.evidence.pins())} tables, each as pinned on disk and in the event log, "
                f"and {len(grounds.evidence.goldens)} goldens",
                *_anchors_told(grounds.evidence),
                *notes_on_goldens(grounds.evidence, records.goldens),
            ]
        ),
    )
    yield _link(
        "registry entry",
        manifest.model_version,
        grounds.entry.entry_sha256,
        _entry_problems(manifest, grounds, records),
        f"base model {manifest.base_model}",
    )
    source = Path(grounds.entry.artefact(manifest.artefact_kind).path)
    yield _link(
        "weights",
        manifest.primary,
        manifest.artefact_sha256,
        _weights_problems(manifest, grounds),
        f"the measured file, as it lies at {source}"
        if source.exists()
        else f"the measured file; {source} is absent, the bundle holds it",
    )


def _anchors_told(evidence: EvidenceManifest) -> Iterator[str]:
    """Which of the tables are the best that was deployed, measured again for this decision."""
    for one in evidence.anchors:
        if one.pins:
            yield f"of these {len(one.pins)} of {one.version}, the best deployed, measured again in the new environment"


def _decision_problems(
    deployment: Deployment, source: Path, manifest: BundleManifest, grounds: _BundledDocuments, records: Records
) -> Iterator[str]:
    found = sha256_json(grounds.decision)
    yield from _differ(DECISION_FILE, found, manifest.decision_sha256)
    yield from _differ(DECISION_FILE, found, deployment.decision_sha256)
    told = (grounds.decision.get("verdict"), grounds.decision.get("winner"))
    yield from _differ("the decision", told, ("promote", manifest.model_version))
    yield from _summary_problems(deployment, source, manifest, grounds, records)
    logged = logged_decision(records.instance, records.store, grounds.evidence)
    stored = records.store.digest(logged.document_uri)
    # The store names a document for its digest.
    if stored is None or short(stored) not in logged.document_uri:
        yield f"{logged.document_uri} {'is missing' if stored is None else f'was changed: it is {stored}'}"
    elif as_decided(
        RunSummary.model_validate_json(records.store.read_bytes(logged.document_uri, stored))
    ) != as_decided(grounds.summary):
        yield f"{logged.document_uri} is another decision than the release's"
    logged.ranking.read()
    yield from _page_problems(grounds.summary.report, records)


def _page_problems(told: ReportRecord | None, records: Records) -> Iterator[str]:
    """What is wrong with the page as it was decided, which the bundle names."""
    # Under a name without its digest it was made anew since.
    if told is None or short(told.sha256) not in told.path:
        return
    found = records.store.digest(f"runs/{PurePosixPath(told.path).name}")
    if found != told.sha256:
        yield f"{told.path} {'is missing' if found is None else f'was changed: it is {found}'}"


def _summary_problems(
    deployment: Deployment, source: Path, manifest: BundleManifest, grounds: _BundledDocuments, records: Records
) -> Iterator[str]:
    path = Documents(records.store.runs).place(manifest.run_id)
    try:
        summary = read_summary(records.store.runs, manifest.run_id)
    except BadInput as error:
        yield f"{path}: {error}"
        return
    if as_decided(summary) != as_decided(grounds.summary):
        yield f"{path} tells of another decision than the release's {SUMMARY_FILE}"
    if summary.bundle is not None and not _leads_to_bundle(summary.bundle, deployment, source, manifest, records.state):
        yield f"{path} names a bundle that is not there: {summary.bundle}"
    for told in summary.deployments:
        known = records.known.get(told.id)
        if deployment.target not in {told.target, known.target if known else None}:
            continue
        if known is None or told != _summary_record(known, records.state):
            yield f"{path} tells of a deployment that the target's history does not know so: {told}"


def _leads_to_bundle(
    told: BundleRecord, deployment: Deployment, source: Path, manifest: BundleManifest, state: StateDir
) -> bool:
    path = state.place(told.path)
    found = (told.name, told.release_digest)
    if source == path and found == (manifest.name, deployment.release):
        return True
    try:
        lies_there = read_manifest(path)
    except (BadInput, OSError):
        return False
    return found == (lies_there.name, lies_there.release_digest)


def _summary_record(deployment: Deployment, state: StateDir) -> DeploymentRecord:
    """What a run's summary tells of a deployment."""
    return DeploymentRecord(
        id=deployment.id,
        target=deployment.target,
        path=state.tell(Path(deployment.target_path)),
        release=str(deployment.release),
    )


def _evidence_problems(
    deployment: Deployment, manifest: BundleManifest, grounds: _BundledDocuments, records: Records
) -> Iterator[str]:
    digest = grounds.evidence.digest()
    yield from _differ(EVIDENCE_FILE, digest, manifest.evidence_sha256)
    yield from _differ(EVIDENCE_FILE, digest, deployment.evidence_sha256)
    try:
        check_manifest(records.instance, records.store, grounds.evidence)
    except MiltonError as error:
        yield str(error)
    for uri, sha256 in dict.fromkeys((t.uri, t.sha256) for one in grounds.evidence.ledger.anchors for t in one.tables):
        yield from _differ(f"{uri}, a table of the best that was deployed,", records.store.digest(uri), sha256)
    yield from broken_goldens(grounds.evidence, records.store)
    yield from changed_since(records.state, grounds.evidence.field)


def _entry_problems(manifest: BundleManifest, grounds: _BundledDocuments, records: Records) -> Iterator[str]:
    entry = grounds.entry
    yield from _differ(REGISTRY_ENTRY_FILE, entry.entry_sha256, manifest.entry_sha256)
    yield from _differ(EVIDENCE_FILE, grounds.candidate.entry_sha256, manifest.entry_sha256)
    try:
        table = logged_entry(records.instance, records.store, grounds.evidence, entry.version)
        yield from _differ(table.uri, entry_from_table(table.read()).content_sha256, entry.content_sha256)
    except MiltonError as error:
        yield str(error)
    registry = records.registry.uri
    try:
        raw = records.registry.registered().get(entry.version)
        if not isinstance(raw, dict):
            yield f"{registry} holds no entry {entry.version}"
        else:
            # Retiring an entry is the one change that it may see.
            found = sha256_json({**raw, "status": entry.raw.get("status")})
            yield from _differ(f"{registry}, entry {entry.version},", found, entry.entry_sha256)
    except MiltonError as error:
        yield f"{registry}, entry {entry.version}: {error}"


def _weights_problems(manifest: BundleManifest, grounds: _BundledDocuments) -> Iterator[str]:
    artefact = grounds.entry.artefact(manifest.artefact_kind)
    yield from _differ("the measured artefact", grounds.candidate.artefact_sha256, manifest.artefact_sha256)
    yield from _differ(REGISTRY_ENTRY_FILE, artefact.sha256, manifest.artefact_sha256)
    yield from _differ(manifest.primary, bundled_artefact_sha256(manifest), manifest.artefact_sha256)
    if not Path(artefact.path).exists():
        return
    sources = {file.path: file.source for file in find_source(artefact).files}
    bundled = {file.path: file.sha256 for file in manifest.model_files()}
    for path in sorted(sources.keys() | bundled.keys()):
        if path not in sources:
            yield f"{artefact.path} lacks {path}, which was bundled"
        else:
            yield from _differ(sources[path], sha256_file(sources[path]), bundled.get(path))
