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
from milton_assets.assets.measured_entry import entry_for
from milton_assets.partitions import MODEL_VERSIONS
from milton_assets.vocabulary.artefact_files import artefact_files, check_gguf
from milton_assets.vocabulary.entry_paths import placed
from milton_assets.vocabulary.entry_table import entry_from_table, entry_to_table, hashed_from_table
from milton_assets.vocabulary.registry import ArtefactKind
from resources.campaign import Campaign
from resources.evidence_store import EvidenceFile
from resources.model_server import ModelServerResource
from resources.parquet_io import EvidenceStoreResource
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
    model_server: ModelServerResource,
    evidence_store: EvidenceStoreResource,
) -> Output[pa.Table]:
    """One validated registry entry: what the registry says, and its artefacts' sizes and SHA-256.

    Where a server is started with the files, they are on this host afterwards, before anything holds its accelerator.
    Under the key of an anchor, whose weights are no candidate any more, it is an entry that was made for them.
    """
    store, here = evidence_store.store, model_server.starts_servers
    entry = entry_for(context, registry, campaign, model_server, store, context.partition_key, here=here)
    hashed_here = [Path(artefact.path).exists() for artefact in entry.artefacts]
    return evidence_output(
        entry_to_table(entry, campaign.state, hashed_here),
        base_model=entry.base_model,
        status=entry.status.value,
        **its_campaign(context),
        content_sha256=entry.content_sha256,
        artefacts={
            artefact.kind.value: {"path": artefact.path, "size_bytes": artefact.size_bytes, "sha256_by": _by(hashed)}
            for artefact, hashed in zip(entry.artefacts, hashed_here, strict=True)
        },
    )


def _by(hashed_here: bool) -> str:
    return "hashed here" if hashed_here else "the registry's word; its header was read where it lies"


@partition_check(registry_entry, MODEL_VERSIONS, blocking=True)
def artefacts_can_be_loaded(
    context: AssetCheckExecutionContext, campaign: Campaign, registry_entry: EvidenceFile
) -> AssetCheckResult:
    """Every GGUF of the entry that was hashed here is there, has the recorded size, and its header parses."""
    problems, elsewhere = [], []
    table = registry_entry.read()
    entry = placed(entry_from_table(table), campaign.state)
    for artefact, hashed in zip(entry.artefacts, hashed_from_table(table), strict=True):
        path = Path(artefact.path)
        if not hashed:
            elsewhere.append(artefact.kind.value)
        elif not path.exists():
            problems.append(f"{path} is gone")
        elif artefact.kind is ArtefactKind.GGUF:
            parts = artefact_files(path)
            if (size := sum(part.stat().st_size for part in parts.values())) != artefact.size_bytes:
                problems.append(f"{path} has {size} bytes, recorded were {artefact.size_bytes}")
            check_gguf(parts)
    return AssetCheckResult(passed=not problems, metadata={"problems": problems, "elsewhere": elsewhere})
