"""A registry entry's paths: as they are kept in the state folder, and where they lie now.

What belongs here: the way from one to the other. What does not: how an entry is kept (`entry_table`); a device, which
has no Parquet, reads entries too.
"""

from __future__ import annotations

from pathlib import Path

from milton_assets.vocabulary.registry import RegistryEntry
from milton_assets.vocabulary.state import StateDir


def placed(entry: RegistryEntry, state: StateDir) -> RegistryEntry:
    """An entry that was kept, with its artefacts where they lie in `state` now."""
    return entry.with_paths(lambda path: str(state.place(path)))


def told(entry: RegistryEntry, state: StateDir) -> RegistryEntry:
    """An entry as it is kept: artefacts inside the state folder are named relative to it, so that it can be moved."""
    return entry.with_paths(lambda path: state.tell(Path(path)))
