"""A past decision again, from its pinned evidence.

    again = decide_again(store.read_bytes, read_summary(state.runs, run_id), policy)
    again.to_json() == summary.decision.to_json()

What belongs here: reading pinned tables, and deciding on them. What does not: where a decision is kept (`summary`), and
where evidence lies.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision
from milton_assets.selection.policy import Policy
from milton_assets.selection.summary import RunSummary
from milton_assets.vocabulary.errors import EvidenceMismatch
from milton_assets.vocabulary.evidence import EvidenceManifest, EvidencePin
from milton_assets.vocabulary.tier import TierResult, table_metadata
from milton_assets.vocabulary.tier_spec import Tiers

ReadPinned = Callable[[str, str], bytes]
"""The bytes at a URI that have a SHA-256. Raises `EvidenceMismatch` when they are missing or others."""


def decide_again(read: ReadPinned, summary: RunSummary, policy: Policy, tiers: Tiers) -> Decision:
    """Decide on the run's pinned evidence under `policy`, with the candidates and the incumbent of that day.

    Under the run's own policy the answer is the recorded decision, byte for byte; under another it is a what-if, and
    says so. Raises `EvidenceMismatch`, naming every file that is missing or changed, and `BadInput` when the summary's
    candidates are not those whose evidence is pinned; `NoSuchTier` when a tier of the run is not among `tiers`.
    """
    measured = read_pinned(read, summary.manifest)
    candidates = [
        Candidate(report.version, measured.get(report.version, {}), report.artefact_size_bytes, report.excluded)
        for report in summary.decision.candidates
    ]
    return decide(
        run_id=summary.run_id,
        candidates=candidates,
        policy=policy,
        manifest=summary.manifest,
        incumbent=summary.decision.incumbent,
        tiers=tiers,
        anchored=read_anchored(read, summary.manifest),
    )


def read_anchored(read: ReadPinned, manifest: EvidenceManifest) -> dict[str, TierResult]:
    """The tables of the anchors by digest: those of before that the manifest's ledger pins, and what was measured again
    of them. Raises `EvidenceMismatch` for one that does not hold."""
    pinned = [(one.uri, one.sha256) for anchor in manifest.ledger.anchors for one in anchor.tables]
    pinned += [(pin.uri, pin.sha256) for one in manifest.anchors for pin in one.pins]
    return {
        sha256: TierResult.from_table(pq.read_table(pa.BufferReader(read(uri, sha256))))
        for uri, sha256 in dict.fromkeys(pinned)
    }


def read_pinned(read: ReadPinned, manifest: EvidenceManifest) -> dict[str, dict[str, TierResult]]:
    """Every pinned table, by version and tier. Raises `EvidenceMismatch`, naming every file that does not hold."""
    tiers: dict[str, dict[str, TierResult]] = {}
    problems = []
    for pin in manifest.pins():
        try:
            tiers.setdefault(pin.model_version, {})[pin.tier] = _table(read, pin)
        except EvidenceMismatch as error:
            problems.append(error.problem)
    if problems:
        raise EvidenceMismatch(
            f"the evidence of {manifest.run_id} does not hold: {'; '.join(problems)}",
            expected="every pinned file as it was when the decision was taken",
            remedy="restore the evidence store, or benchmark and decide again",
        )
    return tiers


def _table(read: ReadPinned, pin: EvidencePin) -> TierResult:
    # What is parsed is what was hashed: the file is read once.
    table = pq.read_table(pa.BufferReader(read(pin.uri, pin.sha256)))
    metadata = table_metadata(table)
    if (metadata["model_version"], metadata["tier"]) != (pin.model_version, pin.tier):
        raise EvidenceMismatch(
            f"{pin.uri} holds {metadata['tier']} of {metadata['model_version']}, "
            f"pinned as {pin.tier} of {pin.model_version}"
        )
    return TierResult.from_table(table)
