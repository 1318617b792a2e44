"""Features that Dagster 1.13 calls beta or preview, and says so at every import.

What belongs here: those that are used, with that notice silenced, here and only here. What does not: any check or
asset. The project pins Dagster below 1.14 and tests them, which is what the notice asks for.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from dagster import (
    AssetCheckResult,
    AssetChecksDefinition,
    AssetsDefinition,
    BetaWarning,
    DataVersion,
    MultiToSingleDimensionPartitionMapping,
    Output,
    PartitionsDefinition,
    PreviewWarning,
    SourceAsset,
    asset_check,
    observable_source_asset,
)

Value = TypeVar("Value")


@contextmanager
def _knowingly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PreviewWarning)
        warnings.simplefilter("ignore", BetaWarning)
        yield


def partition_check(
    asset: str | AssetsDefinition, partitions_def: PartitionsDefinition, **options: Any
) -> Callable[[Callable[..., AssetCheckResult]], AssetChecksDefinition]:
    """`dagster.asset_check` for the run's own partition; without `partitions_def` a check loads every partition.

    `options` are the decorator's other arguments.
    """

    def decorate(check: Callable[..., AssetCheckResult]) -> AssetChecksDefinition:
        with _knowingly():
            return asset_check(asset=asset, partitions_def=partitions_def, **options)(check)

    return decorate


def by_dimension(dimension: str) -> MultiToSingleDimensionPartitionMapping:
    """A partition of two dimensions depends on the one upstream that has its key of `dimension`."""
    with _knowingly():
        return MultiToSingleDimensionPartitionMapping(dimension)


def versioned_output(value: Value, data_version: str, metadata: Mapping[str, Any]) -> Output[Value]:
    """An output whose data version is ours to say: the digest of what it holds."""
    with _knowingly():
        return Output(value, data_version=DataVersion(data_version), metadata=metadata)


def observable(name: str, observe: Callable[[], DataVersion], **options: Any) -> SourceAsset:
    """`dagster.observable_source_asset`: a file of ours whose data version can be observed in the UI."""
    with _knowingly():
        made = observable_source_asset(name=name, **options)(observe)
    if not isinstance(made, SourceAsset):
        raise TypeError(f"observable_source_asset made a {type(made).__name__}, expected a SourceAsset")
    return made
