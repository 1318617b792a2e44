"""Evidence, pinned: which Parquet file, written by which run, with which digest, a decision rests on.

What belongs here: the pins, the manifest, and the one comparison that raises with every mismatch at once. What
does not: reading the disk or the event log (the caller brings what it found).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, model_validator

from milton_assets.vocabulary.chat_template import Lineage, TemplateId
from milton_assets.vocabulary.digest import Sha256, sha256_json
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.field_evidence import FieldEvidence
from milton_assets.vocabulary.format_version import of_this_version
from milton_assets.vocabulary.keys import RunId, Slug, TierName
from milton_assets.vocabulary.ledger import Ledger
from milton_assets.vocabulary.named_weights import NamedWeights

MANIFEST_VERSION = 8
"""Version 3 is digested as RFC 8785 has it; version 4 pins each candidate's chat template, which templates were
allowed, and the ledger of the decisions before; version 5 which weights were let through though they know answers,
and of a table on which device class it was measured; version 6 has what a server put on GPUs, and their CUDA version,
in its fingerprints; version 7 what the field said of the incumbent; version 8 what was measured again of anchors.
Another version is not read."""


class EvidencePin(BaseModel):
    """One table. `uri` is relative to the evidence store's root; `storage_id` is the event's in the event log.

    `device_class` is that of the reference device that it was measured on; None: measured once, for every class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_version: Slug
    tier: TierName
    dagster_run_id: str
    storage_id: int
    data_version: str
    uri: str
    sha256: Sha256
    device_class: Slug | None = None


class CandidateEvidence(BaseModel):
    """Everything one candidate brought: its entry, the artefact that was measured, and a pin per tier.

    `fingerprint_sha256` is the environment that its speeds were measured in; every table states its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_version: Slug
    entry_sha256: Sha256
    artefact_sha256: Sha256
    artefact_size_bytes: int
    fingerprint_sha256: Sha256 | None
    lineage: Lineage = Lineage()
    pins: tuple[EvidencePin, ...]

    def pin(self, tier: str) -> EvidencePin | None:
        """The pin of that tier, if the candidate has one."""
        return next((pin for pin in self.pins if pin.tier == tier), None)


class AnchorEvidence(BaseModel):
    """What there is of an anchor's weights from the environment of this run, where they are no candidate of it.

    `tiers` are those of which a table was wanted; `missing` says why one of them has no pin, None where all have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Slug
    artefact_sha256: Sha256
    tiers: tuple[TierName, ...]
    pins: tuple[EvidencePin, ...] = ()
    missing: str | None = None

    @property
    def weights(self) -> NamedWeights:
        """Its weights, under the version that they were deployed as."""
        return NamedWeights(self.version, self.artefact_sha256)

    def pin(self, tier: str) -> EvidencePin | None:
        """The pin of that tier, if there is one."""
        return next((pin for pin in self.pins if pin.tier == tier), None)


class EvidenceManifest(BaseModel):
    """What a decision rests on. Its digest is written into the decision, the bundle and the deployment.

    `tiers` are those that a candidate had to be measured by, in their order; `private_goldens` are the names in
    `goldens` of which only the digest is kept; `allowed_templates` are chat templates that the operator let through;
    `allowed_contaminated` are weights that may be promoted though they know published answers; `ledger` is what the
    decision before this one handed on; `field` what canaries said of the model that serves;
    `anchors` is what was measured again of the best that was deployed, whose earlier tables the ledger pins;
    `anchors_let_go` are weights that challengers are held to no more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest_version: int = MANIFEST_VERSION
    run_id: RunId
    created_at: AwareDatetime
    policy_name: str
    policy_sha256: Sha256
    registry_sha256: Sha256
    goldens: dict[str, Sha256]
    fingerprints: dict[Sha256, dict[str, Any]]
    candidates: tuple[CandidateEvidence, ...]
    tiers: tuple[TierName, ...]
    private_goldens: tuple[str, ...] = ()
    ledger: Ledger = Ledger()
    allowed_templates: tuple[TemplateId, ...] = ()
    allowed_contaminated: tuple[Sha256, ...] = ()
    field: FieldEvidence = FieldEvidence()
    anchors: tuple[AnchorEvidence, ...] = ()
    anchors_let_go: tuple[Sha256, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_this_version(cls, given: Any) -> Any:
        return of_this_version(given, what="manifest", field="manifest_version", version=MANIFEST_VERSION)

    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return sha256_json(self.model_dump(mode="json"))

    def candidate(self, version: str) -> CandidateEvidence:
        """That candidate's evidence. Raises `BadInput` when it was no candidate of the run."""
        for candidate in self.candidates:
            if candidate.model_version == version:
                return candidate
        raise BadInput(
            f"{version} is no candidate of {self.run_id}",
            expected=f"one of {[c.model_version for c in self.candidates]}",
        )

    @property
    def weights(self) -> dict[str, str]:
        """The SHA-256 of each candidate's weights, by its version."""
        return {one.model_version: one.artefact_sha256 for one in self.candidates}

    def pins(self) -> tuple[EvidencePin, ...]:
        """Every pin, candidate by candidate, then those of anchors."""
        of_candidates = (pin for candidate in self.candidates for pin in candidate.pins)
        return (*of_candidates, *(pin for anchor in self.anchors for pin in anchor.pins))

    def anchor(self, artefact_sha256: str) -> AnchorEvidence | None:
        """What was wanted of that anchor, if anything was."""
        return next((one for one in self.anchors if one.artefact_sha256 == artefact_sha256), None)

    def check(self, found: Iterable[Found]) -> None:
        """Compare every pin with what was found. Raises `EvidenceMismatch` naming every difference."""
        actual = {(f.model_version, f.tier): f for f in found}
        problems = []
        for pin in self.pins():
            where = f"{pin.model_version}/{pin.tier} ({pin.uri})"
            seen = actual.get((pin.model_version, pin.tier))
            if seen is None or seen.file_sha256 is None:
                problems.append(f"{where}: the file is missing")
            elif seen.file_sha256 != pin.sha256:
                problems.append(f"{where}: the file is {seen.file_sha256}, pinned was {pin.sha256}")
            if seen is None or seen.logged_sha256 is None:
                problems.append(f"{where}: event {pin.storage_id} of run {pin.dagster_run_id} is not in the log")
            elif seen.logged_sha256 != pin.sha256:
                problems.append(f"{where}: the event log says {seen.logged_sha256}, pinned was {pin.sha256}")
        if problems:
            raise EvidenceMismatch(
                f"the evidence of {self.run_id} does not hold: " + "; ".join(problems),
                expected="every pinned file and event as they were when the decision was taken",
                remedy="restore the evidence store, or benchmark and decide again",
            )


class Found(BaseModel):
    """What the disk and the event log say today about one pin; None where there is nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_version: Slug
    tier: TierName
    file_sha256: str | None
    logged_sha256: str | None
