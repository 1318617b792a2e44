"""The composition root: `build_defs` assembles the same graph for production and for tests.

What belongs here: which assets, jobs, sensors, schedules and resources there are. What does not: any of them.
See https://docs.dagster.io/guides/build/projects-and-components
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from dagster import AssetsDefinition, Definitions, SourceAsset, definitions

from milton_assets.assets.bundles import edge_bundle
from milton_assets.assets.conventions import conventional
from milton_assets.assets.deployments import deployment, serves_and_is_well
from milton_assets.assets.goldens import golden_assets
from milton_assets.assets.health import device_health, nothing_needs_a_person
from milton_assets.assets.inventory import device_inventory
from milton_assets.assets.on_class import tier_on_class_asset
from milton_assets.assets.registry import artefacts_can_be_loaded, registry_entry
from milton_assets.assets.rollouts import nobody_has_to_decide, rollout
from milton_assets.assets.selection import decision_asset, evidence_holds
from milton_assets.assets.tiers import tier_asset, tier_check
from milton_assets.conductor import autobench_job
from milton_assets.jobs import benchmark_model, benchmark_on_class, deploy, look_after, promote, roll_out
from milton_assets.lineage import lineage_sensors
from milton_assets.schedules import SCHEDULES
from milton_assets.sensors import SENSORS
from milton_assets.settings import Settings, read_settings
from milton_assets.tiers.discovery import installed_tiers
from resources.campaign import Campaign
from resources.console_logger import console_logger
from resources.model_server import edge_server_resource, model_server_resource
from resources.parquet_io import EvidenceStoreResource, ParquetIOManager
from resources.registry_resource import RegistryResource
from resources.value_io import value_io_manager

_log = logging.getLogger(__name__)


def build_defs(
    settings: Settings | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Definitions:
    """The graph that the settings describe, by default those of the process.

    `environment` replaces the process's, `overrides` replaces resources by key: `campaign`, `registry`, `evidence` (the
    IO manager), `evidence_store`, `model_server`, `edge_runtime`. Raises `BadInput` for settings that do not hold.
    """
    if settings is None:
        reading = read_settings(environment)
        settings = reading.settings
        for note in reading.notes:
            _log.warning(note)
    tiers = installed_tiers()
    resources: dict[str, object] = {
        "campaign": Campaign.from_settings(settings),
        "registry": RegistryResource.from_settings(settings),
        "evidence": ParquetIOManager(root=settings.evidence_root),
        "evidence_store": EvidenceStoreResource(root=settings.evidence_root),
        "model_server": model_server_resource(settings),
        "edge_runtime": edge_server_resource(settings),
        "io_manager": value_io_manager,
    }
    assets: list[AssetsDefinition | SourceAsset] = [
        *golden_assets(tiers, settings.goldens),
        registry_entry,
        *(tier_asset(spec, tiers, settings.accelerator_pool) for spec in tiers.values()),
        *(tier_on_class_asset(spec, tiers, settings.accelerator_pool) for spec in tiers.values() if spec.per_class),
        decision_asset(tiers),
        edge_bundle,
        deployment,
        rollout,
        device_health,
        device_inventory,
    ]
    return Definitions(
        assets=conventional(assets, tiers, settings.owners),
        asset_checks=[
            artefacts_can_be_loaded,
            evidence_holds,
            nobody_has_to_decide,
            nothing_needs_a_person,
            serves_and_is_well,
            *(tier_check(spec) for spec in tiers.values()),
            *(tier_check(spec, on_class=True) for spec in tiers.values() if spec.per_class),
        ],
        jobs=[
            benchmark_model,
            benchmark_on_class,
            promote,
            deploy,
            roll_out,
            look_after,
            autobench_job(settings.log_level),
        ],
        sensors=[*SENSORS, *(lineage_sensors(settings.openlineage_url) if settings.openlineage_url else ())],
        schedules=SCHEDULES,
        loggers={"console": console_logger},
        resources={**resources, **(overrides or {})},
    )


@definitions
def defs() -> Definitions:
    """The graph of this process's settings, made when Dagster loads it and not when this module is imported."""
    return build_defs()
