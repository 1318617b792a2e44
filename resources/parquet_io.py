"""The filesystem IO manager: tables go to the evidence store, inputs come back as files pinned by digest.

What belongs here: the wiring between Dagster's contexts and `resources.evidence_store`. What does not: layout and
verification. An input arrives as an `EvidenceFile`, unread, so a fan-in over many partitions costs only pointers; an
input annotated as a `dict` is a fan-in and always arrives as one, be it over 0, 1 or n partitions.
See https://docs.dagster.io/guides/build/io-managers
"""

from __future__ import annotations

from typing import get_origin

import pyarrow as pa
from dagster import (
    ConfigurableIOManager,
    ConfigurableResource,
    InputContext,
    MetadataValue,
    OutputContext,
    TableColumn,
    TableSchema,
)
from pydantic import Field

from milton_assets.vocabulary.columns import description_of
from milton_assets.vocabulary.errors import BadInput
from resources.evidence_store import EvidenceFile, EvidenceStore

COLUMNS = "columns"
"""Under which a table's columns are shown. By Dagster's own key they would come first on the page, and pictures and
verdict only below."""


def column_schema(schema: pa.Schema) -> TableSchema:
    """Names, Arrow types and descriptions of a table's columns, as the UI shows them."""
    return TableSchema(
        columns=[
            TableColumn(name=field.name, type=str(field.type), description=description_of(field)) for field in schema
        ]
    )


class EvidenceStoreResource(ConfigurableResource):  # type: ignore[type-arg]
    """The same store as a resource, for assets that verify pins or keep documents beside the tables."""

    root: str = Field(description="The IO manager's root.")

    @property
    def store(self) -> EvidenceStore:
        """The store."""
        return EvidenceStore(self.root)


class ParquetIOManager(ConfigurableIOManager):
    """Stores `pyarrow.Table` outputs of partitioned assets, a new immutable file each time."""

    root: str = Field(description="Folder or fsspec URL that holds the evidence, e.g. /data/milton or s3://bucket/x.")

    @property
    def store(self) -> EvidenceStore:
        """The store behind this manager."""
        return EvidenceStore(self.root)

    def handle_output(self, context: OutputContext, obj: pa.Table) -> None:
        """Write the table of one partition. Raises `BadInput` without a partition key or with another type."""
        if not context.has_partition_key:
            raise BadInput(
                f"{context.asset_key.to_user_string()} was run without a partition",
                expected="one partition key",
                remedy="choose a partition in the UI, or pass --partition KEY",
            )
        if not isinstance(obj, pa.Table):
            raise BadInput(f"the asset returned {type(obj).__name__}", expected="a pyarrow.Table")
        file = self.store.write(context.asset_key.path[-1], context.partition_key, obj, context.run_id)
        context.add_output_metadata(
            {
                "uri": file.uri,
                "sha256": file.sha256,
                "path": MetadataValue.path(str(self.store.root / file.uri)),
                "dagster/row_count": obj.num_rows,
                COLUMNS: column_schema(obj.schema),
            }
        )

    def load_input(self, context: InputContext) -> EvidenceFile | dict[str, EvidenceFile]:
        """The latest file of the upstream partition, or a dict of them for a fan-in.

        Partitions without a file are left out of the dict; a single one that is missing raises `BadInput`.
        """
        asset = context.asset_key.path[-1]
        if get_origin(context.dagster_type.typing_type) is dict:
            keys = context.asset_partition_keys if context.has_asset_partitions else []
            files = {key: self.store.latest(asset, key) for key in keys}
            return {key: file for key, file in files.items() if file is not None}
        file = self.store.latest(asset, context.asset_partition_key)
        if file is None:
            raise BadInput(
                f"{asset} has nothing for partition {context.asset_partition_key}",
                expected="a materialised upstream partition",
                remedy=f"materialise {asset} for {context.asset_partition_key} first",
            )
        return file
