"""The goldens as source assets: what scores models, each with a data version equal to its content digest.

What belongs here: the observable source assets, made from the tiers' specs. What does not: the files (`goldens/`) and
reading them (`milton_assets.vocabulary.golden_set`). Observing one after its file changed makes the tables downstream
stale in the UI. Where a campaign brings sets of its own for a tier, each of the tier's assets has the version of them
all. See https://docs.dagster.io/guides/build/assets/asset-versioning-and-caching
"""

from collections.abc import Mapping

from dagster import AssetKey, AssetObservation, DagsterInstance, DataVersion, SourceAsset

from milton_assets.assets.beta_features import observable
from milton_assets.vocabulary.digest import sha256_json
from milton_assets.vocabulary.golden_set import OwnSets, TierGoldens, read_goldens
from milton_assets.vocabulary.tier_spec import Tiers, TierSpec
from resources.dagster_private import DATA_VERSION_TAG


def golden_assets(tiers: Tiers, own: OwnSets) -> list[SourceAsset]:
    """A source asset for every golden of every tier."""
    return [_source(spec, golden.name, golden.about, own) for spec in tiers.values() for golden in spec.goldens]


def _source(spec: TierSpec, name: str, about: str, own: OwnSets) -> SourceAsset:
    def observe() -> DataVersion:
        return DataVersion(_version(name, read_goldens(spec, own.get(spec.name, ()))))

    return observable(name, observe, group_name="goldens", description=about)


def _version(name: str, goldens: TierGoldens) -> str:
    return goldens.pinned.get(name) or sha256_json(dict(goldens.pinned))


def observe_goldens(instance: DagsterInstance, tiers: Tiers, goldens: Mapping[str, TierGoldens]) -> None:
    """Record the digests of these goldens as observations, so that the UI knows what is stale."""
    for spec in tiers.values():
        for golden in spec.goldens:
            observation = AssetObservation(
                asset_key=AssetKey(golden.name), tags={DATA_VERSION_TAG: _version(golden.name, goldens[spec.name])}
            )
            instance.report_runless_asset_event(observation)
