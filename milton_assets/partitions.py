"""The three partition definitions: a model is measured once, decided on many times, deployed to many targets.

What belongs here: the definitions. What does not: keys, which `vocabulary.keys` checks.
See https://docs.dagster.io/guides/build/partitions-and-backfills/partitioning-assets
"""

from __future__ import annotations

from dagster import DynamicPartitionsDefinition

MODEL_VERSIONS = DynamicPartitionsDefinition(name="model_versions")
BENCHMARK_RUNS = DynamicPartitionsDefinition(name="benchmark_runs")
EDGE_TARGETS = DynamicPartitionsDefinition(name="edge_targets")
