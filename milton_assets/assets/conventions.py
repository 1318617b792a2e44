"""What Dagster's users look for on an asset beside its name: whose it is, what kind it is, where on the road it stands.

What belongs here: owners, kinds and tags, given to all assets alike. What does not: the assets.
See https://docs.dagster.io/guides/build/assets/metadata-and-tags
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from dagster import AssetsDefinition, AssetSpec, SourceAsset

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.tier import asset_of, asset_on_class
from milton_assets.vocabulary.tier_spec import Tiers
from resources.dagster_private import as_asset

STAGE_TAG: Final = "milton/stage"
TIER_TAG: Final = "milton/tier"

_STAGES: Final = {
    "goldens": "goldens",
    "entry": "measure",
    "tiers": "measure",
    "tiers_on_class": "measure",
    "decision": "decide",
    "bundle": "decide",
    "deployment": "deploy",
    "rollout": "deploy",
    "field": "watch",
}
"""What happens to the assets of each group. The groups are the steps of the story, because the UI opens on
a graph of folded groups: entry, tiers, decision, bundle, deployment."""

_KIND_OF_GOLDENS: Final = "file"


def conventional(
    assets: Iterable[AssetsDefinition | SourceAsset], tiers: Tiers, owners: Sequence[str]
) -> list[AssetsDefinition]:
    """The assets with `owners`, and tagged with their stage and, where they are of one, with their tier.

    Raises `BadInput` for an asset of a group that no stage is named for.
    """
    of_tier = {golden.name: tier for tier, spec in tiers.items() for golden in spec.goldens}
    of_tier |= {name: tier for tier in tiers for name in (asset_of(tier), asset_on_class(tier))}

    def with_conventions(spec: AssetSpec) -> AssetSpec:
        name = spec.key.to_user_string()
        if (stage := _STAGES.get(spec.group_name or "")) is None:
            raise BadInput(f"the asset {name} is in the group {spec.group_name}", expected=f"one of {list(_STAGES)}")
        tags = {STAGE_TAG: stage, **({TIER_TAG: of_tier[name]} if name in of_tier else {})}
        return spec.merge_attributes(owners=list(owners), tags=tags, kinds=spec.kinds or {_KIND_OF_GOLDENS})

    made = (as_asset(asset) if isinstance(asset, SourceAsset) else asset for asset in assets)
    return [asset.map_asset_specs(with_conventions) for asset in made]
