"""The composition root: `build_defs` assembles the same graph for production and for tests.

What belongs here: which assets, jobs, sensors, schedules and resources there are. What does not: any of them.
See https://docs.dagster.io/guides/build/projects-and-components
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from dagster import AssetsDefinition, Definitions, SourceAsset

from milton_assets.assets.bundles import edge_bundle
from milton_assets.assets.deployments import deployment
from milton_assets.assets.goldens import GOLDENS
from milton_assets.assets.inference import inference_metrics
from milton_assets.assets.reasoning import reasoning_metrics
from milton_assets.assets.registry import artefacts_can_be_loaded, registry_entry
from milton_assets.assets.retrieval import retrieval_metrics
from milton_assets.assets.selection import evidence_holds, selection_decision
from milton_assets.assets.tier_checks import TIER_CHECKS
from milton_assets.conductor import autobench_job
from milton_assets.jobs import benchmark_model, deploy, promote
from milton_assets.schedules import SCHEDULES
from milton_assets.sensors import SENSORS
from milton_assets.settings import Settings, read_settings
from resources.campaign import Campaign
from resources.console_logger import console_logger
from resources.model_server import edge_server_resource, model_server_resource
from resources.parquet_io import EvidenceStoreResource, ParquetIOManager
from resources.registry_resource import RegistryResource

_log = logging.getLogger(__name__)

ASSETS: list[AssetsDefinition | SourceAsset] = [
    *GOLDENS,
    registry_entry,
    inference_metrics,
    reasoning_metrics,
    retrieval_metrics,
    selection_decision,
    edge_bundle,
    deployment,
]


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
    resources: dict[str, object] = {
        "campaign": Campaign.from_settings(settings),
        "registry": RegistryResource.from_settings(settings),
        "evidence": ParquetIOManager(root=settings.evidence_root),
        "evidence_store": EvidenceStoreResource(root=settings.evidence_root),
        "model_server": model_server_resource(settings),
        "edge_runtime": edge_server_resource(settings),
    }
    return Definitions(
        assets=ASSETS,
        asset_checks=[artefacts_can_be_loaded, evidence_holds, *TIER_CHECKS],
        jobs=[benchmark_model, promote, deploy, autobench_job(settings.log_level)],
        sensors=SENSORS,
        schedules=SCHEDULES,
        loggers={"console": console_logger},
        resources={**resources, **(overrides or {})},
    )


defs = build_defs()
