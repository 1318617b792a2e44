"""The chain behind one deployment, every link verified: deployment → bundle → decision → evidence → entry → weights.

What belongs here: following the digests from one link to the next. What does not: how a link is checked, which the
packages that made it know, and printing.

The chain is read from the release on the target, which carries every document; the state folder's evidence and the
event log are then held against it. So it also answers for a device that was deployed to elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from milton_assets.edge.bundle import Folder, verify_bundle
from milton_assets.edge.bundle.read import read_document
from milton_assets.edge.deployment import Deployment, Outcome
from milton_assets.edge.manifest import DECISION_FILE, EVIDENCE_FILE, REGISTRY_ENTRY_FILE, BundleManifest
from milton_assets.vocabulary.digest import sha256_json
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.evidence import EvidenceManifest
from milton_assets.vocabulary.registry import RegistryEntry

CheckEvidence = Callable[[EvidenceManifest], None]
"""Compares a manifest with what is on disk and in the event log; raises `MiltonError` with every difference."""


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
    """The links in order, from the deployment to the weights."""

    links: tuple[Link, ...]

    @property
    def holds(self) -> bool:
        """Whether no link is broken."""
        return all(link.holds for link in self.links)

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {"holds": self.holds, "links": [asdict(link) for link in self.links]}


def trace(deployment: Deployment, check_evidence: CheckEvidence) -> Chain:
    """Follow the deployment to the weights. A broken link is said to be broken and the next is still tried."""
    return Chain(tuple(_links(deployment, check_evidence)))


def _links(deployment: Deployment, check_evidence: CheckEvidence) -> Iterator[Link]:
    committed = deployment.outcome is Outcome.COMMITTED
    yield Link(
        "deployment",
        deployment.id,
        deployment.journal_sha256,
        committed,
        f"{deployment.outcome} on {deployment.target} by {deployment.actor}, {deployment.started_at:%Y-%m-%d %H:%M} UTC"
        + ("" if committed else f": {deployment.reason}"),
    )
    release = deployment.release_path
    if release is None or not release.is_dir():
        yield Link("bundle", deployment.bundle or "unknown", deployment.release, False, f"{release} is not there")
        return
    report = verify_bundle(release)
    manifest = report.manifest
    if manifest is None:
        yield Link("bundle", str(release), None, False, "; ".join(map(str, report.problems)))
        return
    problems = [str(problem) for problem in report.problems]
    if manifest.release_digest != deployment.release:
        problems.append(f"the release is {manifest.release_digest}, deployed was {deployment.release}")
    counted = f"{report.files_checked} files, {report.bytes_checked} bytes read and equal to their digests"
    yield Link("bundle", manifest.name, manifest.release_digest, not problems, "; ".join(problems) or counted)
    with Folder(release) as folder:
        documents = {name: json.loads(read_document(folder, name)) for name in _DOCUMENTS}
    yield from _grounds(deployment, manifest, documents, check_evidence)


_DOCUMENTS = (DECISION_FILE, EVIDENCE_FILE, REGISTRY_ENTRY_FILE)


def _grounds(
    deployment: Deployment, manifest: BundleManifest, documents: dict[str, Any], check_evidence: CheckEvidence
) -> Iterator[Link]:
    decision = documents[DECISION_FILE]
    found = sha256_json(decision)
    agrees = found == manifest.decision_sha256 == deployment.decision_sha256
    promotes = decision.get("verdict") == "promote" and decision.get("winner") == manifest.model_version
    detail = f"{decision.get('verdict')} {decision.get('winner')} under policy {manifest.policy_name}"
    yield Link("decision", manifest.run_id, found, agrees and promotes, detail)
    try:
        evidence = EvidenceManifest.model_validate(documents[EVIDENCE_FILE])
        candidate = evidence.candidate(manifest.model_version)
    except (ValidationError, BadInput) as error:
        yield Link("evidence", manifest.run_id, manifest.evidence_sha256, False, f"the manifest does not hold: {error}")
        return
    yield _evidence_link(deployment, manifest, evidence, check_evidence)
    entry = RegistryEntry.model_validate(documents[REGISTRY_ENTRY_FILE]).entry_sha256
    yield Link(
        "registry entry",
        manifest.model_version,
        entry,
        entry == manifest.entry_sha256 == candidate.entry_sha256,
        f"base model {manifest.base_model}",
    )
    measured = candidate.artefact_sha256 == manifest.artefact_sha256
    yield Link(
        "weights",
        str(Path(manifest.primary)),
        manifest.artefact_sha256,
        measured,
        "the measured file" if measured else f"measured was {candidate.artefact_sha256}",
    )


def _evidence_link(
    deployment: Deployment, manifest: BundleManifest, evidence: EvidenceManifest, check_evidence: CheckEvidence
) -> Link:
    digest = evidence.digest()
    pins = len(evidence.pins())
    if not digest == manifest.evidence_sha256 == deployment.evidence_sha256:
        return Link("evidence", evidence.run_id, digest, False, f"the bundle names {manifest.evidence_sha256}")
    try:
        check_evidence(evidence)
    except MiltonError as error:
        return Link("evidence", evidence.run_id, digest, False, str(error))
    return Link(
        "evidence", evidence.run_id, digest, True, f"{pins} tables, each as pinned on disk and in the event log"
    )
