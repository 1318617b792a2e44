"""The partition definitions: a model is measured once, or once a device class; decided on many times, deployed to many
targets, gradually where they are several.

What belongs here: the definitions, and which of them a key belongs to. What does not: what a key looks like, which
`vocabulary.keys` checks.
See https://docs.dagster.io/guides/build/partitions-and-backfills/partitioning-assets
"""

from __future__ import annotations

from collections.abc import Iterator

from dagster import DynamicPartitionsDefinition, MultiPartitionKey, MultiPartitionsDefinition

MODEL_VERSIONS = DynamicPartitionsDefinition(name="model_versions")
BENCHMARK_RUNS = DynamicPartitionsDefinition(name="benchmark_runs")
ROLLOUTS = DynamicPartitionsDefinition(name="rollouts")
EDGE_TARGETS = DynamicPartitionsDefinition(name="edge_targets")
DEVICE_CLASSES = DynamicPartitionsDefinition(name="device_classes")

MODELS_ON_CLASSES = MultiPartitionsDefinition({"device_class": DEVICE_CLASSES, "model_version": MODEL_VERSIONS})
"""For what depends on the device; no class is in it before one has a reference device."""


def keys_added(
    partitions: DynamicPartitionsDefinition | MultiPartitionsDefinition, partition: str
) -> Iterator[tuple[str, str]]:
    """The dynamic partitions that a key of `partitions` stands for, by name."""
    if isinstance(partition, MultiPartitionKey) and isinstance(partitions, MultiPartitionsDefinition):
        for dimension in partitions.partitions_defs:
            if isinstance(dimension.partitions_def, DynamicPartitionsDefinition):
                yield str(dimension.partitions_def.name), partition.keys_by_dimension[dimension.name]
    elif isinstance(partitions, DynamicPartitionsDefinition):
        yield str(partitions.name), partition
