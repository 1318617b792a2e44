"""The `registry_entry` asset: one validated entry of the registry, its artefacts' sizes and digests.

What belongs here: the asset and the check that stands between it and the tiers. What does not: reading and validating
the registry (`resources.registries`). See https://docs.dagster.io/guides/test/asset-checks
"""

from pathlib import Path

import pyarrow as pa
from dagster import AssetCheckExecutionContext, AssetCheckResult, AssetExecutionContext, Output, asset

from milton_assets.assets.beta_features import partition_check
from milton_assets.assets.evidence import evidence_output
from milton_assets.assets.guards import guarded
from milton_assets.assets.links import its_campaign
from milton_assets.partitions import MODEL_VERSIONS
from milton_assets.vocabulary.artefact_files import artefact_files, check_gguf
from milton_assets.vocabulary.entry_paths import placed
from milton_assets.vocabulary.entry_table import entry_from_table, entry_to_table
from milton_assets.vocabulary.registry import ArtefactKind
from resources.campaign import Campaign
from resources.evidence_store import EvidenceFile
from resources.registry_resource import RegistryResource


@asset(
    partitions_def=MODEL_VERSIONS,
    io_manager_key="evidence",
    group_name="entry",
    code_version="1",
    output_required=False,
    kinds={"parquet"},
)
@guarded
def registry_entry(
    context: AssetExecutionContext,
    registry: RegistryResource,
    campaign: Campaign,
) -> Output[pa.Table]:
    """One validated registry entry: what the registry says, and its artefacts' sizes and SHA-256."""
    entry = registry.entry(context.partition_key)
    return evidence_output(
        entry_to_table(entry, campaign.state),
        base_model=entry.base_model,
        status=entry.status.value,
        **its_campaign(context),
        content_sha256=entry.content_sha256,
        artefacts={a.kind.value: {"path": a.path, "size_bytes": a.size_bytes} for a in entry.artefacts},
    )


@partition_check(registry_entry, MODEL_VERSIONS, blocking=True)
def artefacts_can_be_loaded(
    context: AssetCheckExecutionContext, campaign: Campaign, registry_entry: EvidenceFile
) -> AssetCheckResult:
    """Every GGUF of the entry is there, has the recorded size, and its header parses."""
    problems = []
    for artefact in placed(entry_from_table(registry_entry.read()), campaign.state).artefacts:
        path = Path(artefact.path)
        if not path.exists():
            problems.append(f"{path} is gone")
        elif artefact.kind is ArtefactKind.GGUF:
            parts = artefact_files(path)
            if (size := sum(part.stat().st_size for part in parts.values())) != artefact.size_bytes:
                problems.append(f"{path} has {size} bytes, recorded were {artefact.size_bytes}")
            check_gguf(parts)
    return AssetCheckResult(passed=not problems, metadata={"problems": problems})
