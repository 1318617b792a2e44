"""The occasion of a contest: what is the same whoever stands and whatever the policy.

What belongs here: the noun. What does not: holding the contest (`contest`), and comparing with anchors (`anchoring`).
"""

from __future__ import annotations

from dataclasses import dataclass

from milton_assets.selection.life import Life
from milton_assets.vocabulary.evidence import EvidenceManifest
from milton_assets.vocabulary.tier_spec import Tiers


@dataclass(frozen=True)
class Occasion:
    """What a contest is held on, whoever stands: the seed of its resampling, the version that serves or None, the
    tiers, the incumbent's life, and the manifest that pins the evidence."""

    seed: int
    incumbent: str | None
    tiers: Tiers
    life: Life
    manifest: EvidenceManifest
