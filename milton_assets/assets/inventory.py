"""The `device_inventory` asset: what an edge target is, as it says itself.

What belongs here: wiring. What does not: which facts there are (`milton_assets.vocabulary.inventory`), and reading them
(`resources.inventory`, on the device).
"""

from datetime import UTC, datetime

import pyarrow as pa
from dagster import AssetExecutionContext, Output, asset

from milton_assets.assets.beta_features import versioned_output
from milton_assets.assets.guards import guarded
from milton_assets.partitions import EDGE_TARGETS
from milton_assets.usecases.targets import open_targets
from milton_assets.vocabulary.columns import described
from milton_assets.vocabulary.digest import sha256_json
from milton_assets.vocabulary.inventory import Inventory
from milton_assets.vocabulary.llama_build import llama_build
from resources.campaign import Campaign
from resources.model_server import EdgeServerResource

_COLUMNS = pa.schema(
    [
        described("host", pa.string(), "what the device calls itself"),
        described("operating_system", pa.string(), "the distribution's own name"),
        described("kernel", pa.string(), "kernel and release"),
        described("python", pa.string(), "the Python that the agent runs in"),
        described("architecture", pa.string(), "the processor's, as the kernel names it"),
        described("processor", pa.string(), "the processor's model; null where it names none"),
        described("physical_cores", pa.int64(), "cores without hyperthreads; null where it does not tell"),
        described("usable_cores", pa.int64(), "cores that a process may keep busy there"),
        described("features", pa.list_(pa.string()), "instruction set extensions, as the kernel spells them"),
        described("memory_total_bytes", pa.int64(), "main memory"),
        described("memory_available_bytes", pa.int64(), "of it available when it was asked"),
        described("disk", pa.string(), "where the target's file system is mounted, and its kind"),
        described("disk_total_bytes", pa.int64(), "that file system's size"),
        described("disk_free_bytes", pa.int64(), "of it free when it was asked"),
        described("gpus", pa.list_(pa.string()), "a JSON object each: name, memory_bytes, driver, power_limit_w, cuda"),
        described("gpus_absent_because", pa.string(), "why there is none; null where there is one"),
        described("runtime", pa.string(), "the model server that it would serve with"),
        described("runtime_build", pa.string(), "what that says of its build"),
        described("gpu_layers", pa.int64(), "layers its settings put on the GPU; null where it takes what fits"),
        described("llama_build", pa.int64(), "the number of that build of llama.cpp; null where it is none"),
        described("runtime_absent_because", pa.string(), "why there is none; null where there is one"),
        described("power_source", pa.string(), "`mains` or `battery`; null where it does not tell"),
        described("power_source_absent_because", pa.string(), "why it does not tell"),
        described("clock", pa.timestamp("us", tz="UTC"), "what its clock said when it was asked"),
        described("clock_ahead_s", pa.float64(), "seconds by which that was ahead of this machine's, the way included"),
    ]
)


@asset(
    partitions_def=EDGE_TARGETS,
    io_manager_key="evidence",
    group_name="field",
    code_version="2",
    output_required=False,
    kinds={"parquet"},
)
@guarded
def device_inventory(
    context: AssetExecutionContext, campaign: Campaign, edge_runtime: EdgeServerResource
) -> Output[pa.Table]:
    """What the device is: processor and its features, memory, disk, GPU, software, power source and clock, in a row.

    Its data version is that of the facts that stay: what is free and what time it is do not count.
    """
    targets = open_targets(campaign.state, campaign.target_paths, server=edge_runtime.edge_server)
    asked_at = datetime.now(UTC)
    inventory = targets.named(context.partition_key).inventory()
    asked_for = datetime.now(UTC) - asked_at
    ahead_s = (inventory.clock - (asked_at + asked_for / 2)).total_seconds()
    described_as = {
        "host": inventory.host,
        "processor": inventory.processor.model or inventory.processor.architecture,
        "runtime": inventory.runtime.build if inventory.runtime else str(inventory.runtime_absent_because),
        "clock_ahead_s": ahead_s,
    }
    return versioned_output(table_of(inventory, ahead_s), facts_digest(inventory), described_as)


def table_of(inventory: Inventory, clock_ahead_s: float) -> pa.Table:
    """The inventory as one row."""
    processor, memory, disk, runtime = inventory.processor, inventory.memory, inventory.disk, inventory.runtime
    row = {
        "host": inventory.host,
        "operating_system": inventory.operating_system,
        "kernel": inventory.kernel,
        "python": inventory.python,
        "architecture": processor.architecture,
        "processor": processor.model,
        "physical_cores": processor.physical_cores,
        "usable_cores": processor.usable_cores,
        "features": list(processor.features),
        "memory_total_bytes": memory.total_bytes,
        "memory_available_bytes": memory.available_bytes,
        "disk": f"{disk.mounted_at} ({disk.kind or 'of a kind that it does not tell'})",
        "disk_total_bytes": disk.total_bytes,
        "disk_free_bytes": disk.free_bytes,
        "gpus": [gpu.model_dump_json() for gpu in inventory.gpus],
        "gpus_absent_because": inventory.gpus_absent_because,
        "runtime": runtime.name if runtime else None,
        "runtime_build": runtime.build if runtime else None,
        "gpu_layers": runtime.gpu_layers if runtime else None,
        "llama_build": llama_build(runtime.build) if runtime else None,
        "runtime_absent_because": inventory.runtime_absent_because,
        "power_source": inventory.power_source,
        "power_source_absent_because": inventory.power_source_absent_because,
        "clock": inventory.clock,
        "clock_ahead_s": clock_ahead_s,
    }
    return pa.Table.from_pylist([row], schema=_COLUMNS)


def facts_digest(inventory: Inventory) -> str:
    """The digest of what stays the same from one asking to the next."""
    facts = inventory.model_dump(mode="json", exclude={"clock"})
    del facts["memory"]["available_bytes"], facts["memory"]["lendable_bytes"], facts["disk"]["free_bytes"]
    return sha256_json(facts)
