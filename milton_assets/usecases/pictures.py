"""The pictures that tiers draw of several models side by side.

What belongs here: asking each tier's spec. What does not: drawing, and the decision's own pictures
(`milton_assets.selection.plots`).
"""

from __future__ import annotations

from collections.abc import Mapping

from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Tiers


def tier_pictures(tiers: Tiers, measured: Mapping[str, Mapping[str, TierResult]]) -> dict[str, bytes]:
    """PNGs by name; `measured` has the results by version and tier."""
    drawn: dict[str, bytes] = {}
    for name, spec in tiers.items():
        if spec.pictures is not None:
            drawn |= spec.pictures({version: found[name] for version, found in measured.items() if name in found})
    return drawn
