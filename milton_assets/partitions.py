"""The partition definitions: a model is measured once, or once a device class; decided on many times, deployed to many
targets, gradually where they are several.

What belongs here: the definitions. What does not: keys, which `vocabulary.keys` checks.
See https://docs.dagster.io/guides/build/partitions-and-backfills/partitioning-assets
"""

from __future__ import annotations

from dagster import DynamicPartitionsDefinition, MultiPartitionsDefinition

MODEL_VERSIONS = DynamicPartitionsDefinition(name="model_versions")
BENCHMARK_RUNS = DynamicPartitionsDefinition(name="benchmark_runs")
ROLLOUTS = DynamicPartitionsDefinition(name="rollouts")
EDGE_TARGETS = DynamicPartitionsDefinition(name="edge_targets")
DEVICE_CLASSES = DynamicPartitionsDefinition(name="device_classes")

MODELS_ON_CLASSES = MultiPartitionsDefinition({"device_class": DEVICE_CLASSES, "model_version": MODEL_VERSIONS})
"""For what depends on the device; no class is in it before one has a reference device."""
