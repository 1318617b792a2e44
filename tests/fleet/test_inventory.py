"""What a device says it runs on: as its kernel tells, or why that is not known."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from milton_assets.assets.inventory import facts_digest, table_of
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.inventory import PowerSource
from milton_assets.vocabulary.llama_build import llama_build
from resources.edge_server import LlamaServer
from resources.inventory import inventory_of, power_source_of


def supplies(folder: Path, **kinds: str) -> Path:
    """A folder like `/sys/class/power_supply`; each kind is its type and, where it says so, whether it is online."""
    for name, told in kinds.items():
        kind, _, online = told.partition(" ")
        (folder / name).mkdir(parents=True)
        (folder / name / "type").write_text(f"{kind}\n")
        if online:
            (folder / name / "online").write_text(f"{online}\n")
    return folder


@pytest.mark.parametrize(
    ("kinds", "source"),
    [
        ({"AC": "Mains 1", "BAT0": "Battery"}, PowerSource.MAINS),
        ({"AC": "Mains 0", "BAT0": "Battery"}, PowerSource.BATTERY),
        ({"usb": "USB 1"}, PowerSource.MAINS),
    ],
    ids=["plugged in", "unplugged", "by USB"],
)
def test_a_device_runs_on_what_is_online_else_on_its_battery(tmp_path, kinds, source) -> None:
    assert power_source_of(supplies(tmp_path, **kinds)) == (source, None)


def test_a_board_that_tells_of_no_supply_says_so(tmp_path) -> None:
    assert power_source_of(tmp_path / "none") == (None, "the kernel tells of no power supply that is in use")
    assert power_source_of(supplies(tmp_path, AC="Mains 0"))[0] is None


@pytest.mark.parametrize(
    ("said", "build"),
    [
        ("version: 11434 (0a1b2c3)", 11434),
        ("b11434-0a1b2c3", 11434),
        ("xllamacpp 2026.10.11549", 11549),
        ("b0-unknown", None),
        ("version: 0 (unknown)", None),
        ("0.12.0", None),
        (None, None),
    ],
)
def test_a_build_of_llama_cpp_is_read_from_what_servers_say(said: str | None, build: int | None) -> None:
    assert llama_build(said) == build


def test_the_runtime_is_the_program_that_releases_are_served_with(tmp_path: Path) -> None:
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho 'ggml_cuda_init: found 1 device' >&2\necho 'version: 11434 (0a1b2c3)' >&2\n")
    program.chmod(0o755)
    runtime = inventory_of(tmp_path, lambda: LlamaServer(str(program))).runtime
    assert runtime is not None
    assert (runtime.name, llama_build(runtime.build)) == ("llama.cpp", 11434)


def test_a_program_that_is_not_there_is_no_runtime_and_says_why(tmp_path: Path) -> None:
    def missing() -> LlamaServer:
        raise BadInput("there is no program llama-server.")

    told = inventory_of(tmp_path, missing)
    assert (told.runtime, told.runtime_absent_because) == (None, "there is no program llama-server.")


def test_an_inventory_is_kept_as_a_row_whose_version_is_that_of_the_facts_that_stay(tmp_path: Path) -> None:
    told = inventory_of(tmp_path)
    (row,) = table_of(told, 0.5).to_pylist()
    assert (row["architecture"], row["memory_total_bytes"]) == (told.processor.architecture, told.memory.total_bytes)
    assert (row["clock"], row["clock_ahead_s"]) == (told.clock, 0.5)
    assert row["features"] == list(told.processor.features)
    assert (row["gpus"] == []) == (row["gpus_absent_because"] is not None)
    later = told.model_copy(
        update={
            "clock": told.clock + timedelta(hours=1),
            "disk": told.disk.model_copy(update={"free_bytes": 0}),
            "memory": told.memory.model_copy(update={"available_bytes": 0}),
        }
    )
    assert facts_digest(later) == facts_digest(told)
    assert facts_digest(told.model_copy(update={"python": "3.10.0"})) != facts_digest(told)
