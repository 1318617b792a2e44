"""Columns that say what they hold: a description beside name and type, in the Parquet file and so in the UI.

What belongs here: writing and reading a column's description. What does not: any table's columns.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

_KEY: Final = b"description"


def described(name: str, kind: pa.DataType, description: str) -> pa.Field:
    """A column with its description, which Arrow keeps with the field and Parquet with the file."""
    return pa.field(name, kind, metadata={_KEY: description.encode()})


def description_of(field: pa.Field) -> str | None:
    """What the column says of itself, if anything."""
    told = (field.metadata or {}).get(_KEY)
    return None if told is None else told.decode(errors="replace")
