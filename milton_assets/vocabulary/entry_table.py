"""A registry entry as one row of Parquet, and back.

What belongs here: that row's layout. What does not: validation, which the entry's own type does.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pydantic import ValidationError

from milton_assets.vocabulary.columns import described
from milton_assets.vocabulary.digest import canonical_json
from milton_assets.vocabulary.entry_paths import told
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import RegistryEntry
from milton_assets.vocabulary.state import StateDir

SCHEMA = pa.schema(
    [
        described("version", pa.string(), "the model version"),
        described("base_model", pa.string(), "the model that it was made from"),
        described("created_at", pa.string(), "when it was made, ISO 8601"),
        described("status", pa.string(), "candidate or retired"),
        described("entry_sha256", pa.string(), "SHA-256 of what the registry says of it"),
        described("content_sha256", pa.string(), "SHA-256 of that and of its artefacts"),
        described("artefact_kinds", pa.list_(pa.string()), "what kinds of artefact there are"),
        described("artefact_sizes_bytes", pa.list_(pa.int64()), "the artefacts' sizes in bytes, in the same order"),
        described("artefact_sha256s", pa.list_(pa.string()), "the artefacts' SHA-256, in the same order"),
        described(
            "artefacts_hashed_here",
            pa.list_(pa.bool_()),
            "whether the host that read the entry hashed their bytes, in the same order; else the SHA-256 is what the "
            "registry says",
        ),
        described("entry_json", pa.string(), "the whole entry"),
    ]
)


def entry_to_table(entry: RegistryEntry, state: StateDir, hashed_here: Sequence[bool] | None = None) -> pa.Table:
    """One row: the entry's fields for people and queries, and the whole entry as JSON in `entry_json`.

    `hashed_here` says of each artefact whether its digest was computed from its bytes, or is what the registry says;
    None: all were computed.

    Artefacts inside the state folder are named relative to it, so that the row holds wherever that is moved.
    """
    return pa.Table.from_pylist(
        [
            {
                "version": entry.version,
                "base_model": entry.base_model,
                "created_at": entry.created_at.isoformat(),
                "status": entry.status.value,
                "entry_sha256": entry.entry_sha256,
                "content_sha256": entry.content_sha256,
                "artefact_kinds": [a.kind.value for a in entry.artefacts],
                "artefact_sizes_bytes": [a.size_bytes for a in entry.artefacts],
                "artefact_sha256s": [a.sha256 for a in entry.artefacts],
                "artefacts_hashed_here": [True] * len(entry.artefacts) if hashed_here is None else list(hashed_here),
                "entry_json": canonical_json(told(entry, state).model_dump(mode="json")),
            }
        ],
        schema=SCHEMA,
    )


def hashed_from_table(table: pa.Table) -> list[bool]:
    """Of each artefact in the row, whether its bytes were hashed; they were before tables said so."""
    if "artefacts_hashed_here" not in table.column_names:
        return [True] * len(table["artefact_kinds"][0].as_py())
    found: list[bool] = table["artefacts_hashed_here"][0].as_py()
    return found


def entry_from_table(table: pa.Table) -> RegistryEntry:
    """The entry that the row keeps, paths as they were kept: `entry_paths.placed` says where they lie now.

    Raises `BadInput` for a table of another shape.
    """
    if table.num_rows != 1 or "entry_json" not in table.column_names:
        raise BadInput(f"the table has {table.num_rows} rows and columns {table.column_names}", expected="one entry")
    try:
        return RegistryEntry.model_validate_json(table["entry_json"][0].as_py())
    except ValidationError as error:
        raise BadInput(
            f"the table's entry does not hold ({error})", expected="a row written by `registry_entry`"
        ) from error
