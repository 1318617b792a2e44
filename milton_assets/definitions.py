"""The composition root: `build_defs` assembles the same graph for production and for tests.

What belongs here: which assets, jobs, sensors, schedules and resources there are. What does not: any of them.
See https://docs.dagster.io/guides/build/projects-and-components
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from dagster import Definitions

from milton_assets.assets.bundles import edge_bundle
from milton_assets.assets.deployments import deployment
from milton_assets.assets.goldens import golden_assets
from milton_assets.assets.registry import artefacts_can_be_loaded, registry_entry
from milton_assets.assets.selection import decision_asset, evidence_holds
from milton_assets.assets.tiers import tier_asset, tier_check
from milton_assets.conductor import autobench
from milton_assets.jobs import benchmark_model, deploy, promote
from milton_assets.schedules import SCHEDULES
from milton_assets.sensors import SENSORS
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import ArtefactKind
from resources.campaign import Campaign, one_of
from resources.evidence_store import evidence_root_from
from resources.model_server import LlamaCppResource, ModelServerResource, VLLMResource
from resources.parquet_io import EvidenceStoreResource, ParquetIOManager
from resources.registry_resource import RegistryResource


def build_defs(
    *, environment: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None
) -> Definitions:
    """The graph. `environment` replaces the process's, `overrides` replaces resources by key.

    Resource keys: `campaign`, `registry`, `evidence` (the IO manager), `evidence_store`, `model_server`,
    `edge_runtime`. Raises `BadInput` for an environment variable that does not hold.
    """
    env = os.environ if environment is None else environment
    campaign = Campaign.from_environment(env)
    tiers = installed_tiers()
    evidence_root = evidence_root_from(env, campaign.state)
    resources: dict[str, object] = {
        "campaign": campaign,
        "registry": RegistryResource.from_environment(env),
        "evidence": ParquetIOManager(root=evidence_root),
        "evidence_store": EvidenceStoreResource(root=evidence_root),
        "model_server": model_server_from(env),
        "edge_runtime": LlamaCppResource(),
    }
    return Definitions(
        assets=[
            *golden_assets(tiers, campaign.goldens),
            registry_entry,
            *(tier_asset(spec, tiers) for spec in tiers.values()),
            decision_asset(tiers),
            edge_bundle,
            deployment,
        ],
        asset_checks=[artefacts_can_be_loaded, evidence_holds, *(tier_check(spec) for spec in tiers.values())],
        jobs=[benchmark_model, promote, deploy, autobench],
        sensors=SENSORS,
        schedules=SCHEDULES,
        resources={**resources, **(overrides or {})},
    )


def model_server_from(environment: Mapping[str, str]) -> ModelServerResource:
    """The server under test: llama.cpp launched here (default), vLLM launched here, or any server by URL.

    MILTON_SERVER is `llama.cpp`, `vllm`, or an address such as `http://gpu-box:8000` to attach to. For vLLM,
    MILTON_VLLM_PYTHON names an interpreter that has it; for an address, MILTON_SERVER_KEY_ENV names the variable that
    holds its API key, MILTON_ARTIFACT says which kind of artefact it has loaded, and MILTON_SERVER_PATH the artefact's
    path as that server sees it, where it is another.
    """
    chosen = environment.get("MILTON_SERVER", "llama.cpp")
    if chosen == "llama.cpp":
        return LlamaCppResource()
    if chosen == "vllm":
        return VLLMResource(interpreter=environment.get("MILTON_VLLM_PYTHON") or None)
    if not chosen.startswith(("http://", "https://")):
        raise BadInput(
            f"MILTON_SERVER is {chosen!r}", expected="llama.cpp, vllm, or an address such as http://host:8000"
        )
    kind = one_of(ArtefactKind, environment.get("MILTON_ARTIFACT", "gguf"), "MILTON_ARTIFACT")
    key_env = environment.get("MILTON_SERVER_KEY_ENV") or None
    path_there = environment.get("MILTON_SERVER_PATH") or None
    return VLLMResource(base_url=chosen, attached_kind=kind.value, api_key_env=key_env, path_there=path_there)


defs = build_defs()
