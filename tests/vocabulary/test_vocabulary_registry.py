"""Registry entries and their row of Parquet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from milton_assets.vocabulary.entry_paths import placed
from milton_assets.vocabulary.entry_table import entry_from_table, entry_to_table
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import Artefact, ArtefactKind, EntryStatus, Registry, RegistryEntry
from milton_assets.vocabulary.state import StateDir

WHEN = datetime(2026, 1, 11, 14, 25, tzinfo=UTC)
GGUF = Artefact(kind=ArtefactKind.GGUF, path="/m.gguf", size_bytes=3, sha256="a" * 64, quantization="Q4_0")
STATE = StateDir(Path("/state"))
HF = Artefact(kind=ArtefactKind.HF_DISTILLED, path="/hf", size_bytes=9, sha256="b" * 64)


def entry(**changes: Any) -> RegistryEntry:
    fields: dict[str, Any] = {
        "version": "v1",
        "base_model": "m",
        "created_at": WHEN,
        "status": EntryStatus.CANDIDATE,
        "artefacts": (GGUF, HF),
        "raw": {"base_model": "m", "more": [1]},
    }
    return RegistryEntry(**{**fields, **changes})


def registry(*entries: RegistryEntry) -> Registry:
    return Registry({each.version: each for each in entries}, (), "0" * 64, WHEN)


def test_an_artefact_is_found_by_its_kind() -> None:
    assert entry().artefact(ArtefactKind.GGUF) is GGUF
    assert entry().artefact(ArtefactKind.HF_DISTILLED) is HF


def test_a_missing_artefact_says_what_to_do_and_is_never_replaced_by_the_other() -> None:
    with pytest.raises(BadInput, match=r"v1 has no GGUF.*--artifact hf-distilled"):
        entry(artefacts=(HF,)).artefact(ArtefactKind.GGUF)
    with pytest.raises(BadInput, match="deploy the GGUF"):
        entry(artefacts=(GGUF,)).artefact(ArtefactKind.HF_DISTILLED)


def test_the_entry_digest_follows_what_the_registry_says_alone() -> None:
    assert entry().entry_sha256 == entry(artefacts=()).entry_sha256
    assert entry().entry_sha256 != entry(raw={"base_model": "m", "more": [2]}).entry_sha256


def test_the_content_digest_follows_the_files_too() -> None:
    changed = GGUF.model_copy(update={"sha256": "c" * 64})
    moved = GGUF.model_copy(update={"path": "/elsewhere.gguf"})
    assert entry().content_sha256 != entry(artefacts=(changed, HF)).content_sha256
    assert entry().content_sha256 == entry(artefacts=(moved, HF)).content_sha256


def test_candidates_are_those_not_retired_oldest_first_then_by_version() -> None:
    later = WHEN + timedelta(hours=1)
    found = registry(
        entry(version="b", created_at=later),
        entry(version="a", created_at=later),
        entry(version="z"),
        entry(version="y", status=EntryStatus.RETIRED),
    ).candidates()
    assert [each.version for each in found] == ["z", "a", "b"]


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "../v"},
        {"created_at": datetime(2026, 1, 1)},
        {"status": "best"},
        {"note": "unknown field"},
        {"artefacts": ({"kind": "gguf", "path": "/m", "size_bytes": -1, "sha256": "a" * 64},)},
        {"artefacts": ({"kind": "gguf", "path": "/m", "size_bytes": 1, "sha256": "a"},)},
        {"artefacts": ({"kind": "onnx", "path": "/m", "size_bytes": 1, "sha256": "a" * 64},)},
    ],
)
def test_an_entry_that_does_not_hold_does_not_exist(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        entry(**changes)


def test_an_entry_comes_back_from_its_row_as_it_was() -> None:
    table = entry_to_table(entry(), STATE)
    assert (table.num_rows, table["version"][0].as_py()) == (1, "v1")
    assert entry_from_table(table) == entry()


def test_a_kept_entry_finds_its_artefacts_in_a_state_folder_that_was_moved() -> None:
    inside = GGUF.model_copy(update={"path": "/state/models/m.gguf"})
    kept = entry_from_table(entry_to_table(entry(artefacts=(inside, HF)), STATE))
    assert [artefact.path for artefact in kept.artefacts] == ["models/m.gguf", "/hf"]
    moved = placed(kept, StateDir(Path("/moved")))
    assert [artefact.path for artefact in moved.artefacts] == ["/moved/models/m.gguf", "/hf"]


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"version": ["v1"]}),
        pa.concat_tables([entry_to_table(entry(), STATE)] * 2),
        pa.table({"entry_json": ["{}"]}),
        pa.table({"entry_json": ["{"]}),
    ],
)
def test_a_table_that_holds_no_entry_is_refused(table: pa.Table) -> None:
    with pytest.raises(BadInput):
        entry_from_table(table)
