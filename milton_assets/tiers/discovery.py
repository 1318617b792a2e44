"""Which tiers there are: those that ship, and those that installed packages bring.

    for spec in installed_tiers().values(): ...

What belongs here: finding specs. What does not: what a spec is (`milton_assets.vocabulary.tier_spec`).

The tiers that ship are listed here and nowhere else; they need no entry point, so that a checkout whose metadata is
older than its code has them all the same. A package adds a tier by an entry point of the group `milton.tiers` that
names a `TierSpec`; the entry point's name is the tier's. See docs/adr/0110-a-tier-describes-itself.md.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from milton_assets.tiers.fidelity.spec import SPEC as FIDELITY
from milton_assets.tiers.inference.spec import SPEC as INFERENCE
from milton_assets.tiers.reasoning.spec import SPEC as REASONING
from milton_assets.tiers.retrieval.spec import SPEC as RETRIEVAL
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.tier_spec import Tiers, TierSpec

GROUP = "milton.tiers"
SHIPPED = (INFERENCE, REASONING, RETRIEVAL, FIDELITY)
"""In the order in which they are measured; those of packages follow, by name."""


class BrokenTier(BadInput):
    """A package whose tier cannot be used; the message names the package."""


def installed_tiers() -> Tiers:
    """Every tier that is installed now. Raises `BrokenTier` naming the distribution whose tier cannot be loaded."""
    return Tiers((*SHIPPED, *(_load(found) for found in sorted(entry_points(group=GROUP), key=lambda e: e.name))))


def _load(found: EntryPoint) -> TierSpec:
    distribution = found.dist.name if found.dist is not None else "an unknown distribution"
    what = f"{distribution} brings the tier {found.name!r} ({found.value})"
    remedy = f"correct or uninstall {distribution}"
    if found.name == "inspect":
        raise BrokenTier(f"{what}, a name that is a verb of `milton bench`", expected="another name", remedy=remedy)
    if found.name in {spec.name for spec in SHIPPED}:
        raise BrokenTier(f"{what}, a name that ships with Milton Autobench", expected="another name", remedy=remedy)
    try:
        spec = found.load()
    except Exception as error:  # whatever a stranger's module raises when it is imported
        raise BrokenTier(
            f"{what}, which cannot be imported: {type(error).__name__}: {error}", expected="a TierSpec", remedy=remedy
        ) from error
    if not isinstance(spec, TierSpec):
        raise BrokenTier(f"{what}, which is a {type(spec).__name__}", expected="a TierSpec", remedy=remedy)
    if spec.name != found.name:
        raise BrokenTier(
            f"{what}, whose spec is named {spec.name!r}", expected="one name in entry point and spec", remedy=remedy
        )
    return spec
