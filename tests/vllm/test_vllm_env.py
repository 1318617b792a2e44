"""Where vLLM's environment lies, and when it counts as whole."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.vllm.vllm_env import (
    CPU,
    GPU,
    INSTALL_REQUIREMENTS,
    MARKER,
    environment_folder,
    interpreter_of,
    is_whole,
    make,
)


def test_it_lies_outside_the_clone_under_its_recipes_digest() -> None:
    cache = {"XDG_CACHE_HOME": "/cache"}
    assert environment_folder(CPU, cache) == Path(f"/cache/milton/vllm-{CPU.digest}")
    assert environment_folder(GPU, cache) != environment_folder(CPU, cache)
    assert environment_folder(CPU, {}) == Path.home() / ".cache" / "milton" / f"vllm-{CPU.digest}"
    assert environment_folder(CPU, cache | {"MILTON_VLLM_ENV": "/elsewhere"}) == Path("/elsewhere")


def test_another_recipe_is_another_environment() -> None:
    assert replace(CPU, first=("torch==2.14.0",)).digest != CPU.digest


@pytest.mark.parametrize("marker", ["", "{", "[]", '{"digest": "another"}'])
def test_it_is_whole_only_with_its_own_marker(marker: str, tmp_path: Path) -> None:
    assert not is_whole(tmp_path, CPU)
    (tmp_path / MARKER).write_text(marker)
    assert not is_whole(tmp_path, CPU)
    (tmp_path / MARKER).write_text(json.dumps({"digest": CPU.digest, **asdict(CPU)}))
    assert is_whole(tmp_path, CPU)


def test_a_whole_one_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text(json.dumps({"digest": CPU.digest}))
    make(CPU, tmp_path)
    assert not interpreter_of(tmp_path).exists()


def test_requirements_are_installed_less_those_left_out_and_those_of_other_machines(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "thing-1.0.dist-info").mkdir(parents=True)
    (site / "thing-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\nRequires-Dist: torch==2.13.0\nRequires-Dist: idna>=3\n"
        'Requires-Dist: colorama; sys_platform == "win32"\nRequires-Dist: audio; extra == "audio"\n'
    )
    # Stands for pip: prints what it would be told to install.
    (site / "pip.py").write_text("import sys; print(sys.argv[1:])")
    ran = subprocess.run(
        [sys.executable, "-c", INSTALL_REQUIREMENTS, "thing", "torch,torchvision"],
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "['install', '--progress-bar=off', 'idna>=3']"
