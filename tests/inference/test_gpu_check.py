"""The GPU checks' script where there is no GPU: what can be had small is measured, the rest says why it was not."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benches.gpu.build import NotBuilt, unpacked
from benches.gpu.carry import parts, shared_out, trimmed
from benches.gpu.check import CHECKS, Given, joined, made

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("gpu-check")
    names = ("environment", "memory", "energy", "client", "bundle", "campaign")
    only = [word for name in names for word in ("--only", name)]
    ran = subprocess.run(
        [sys.executable, "benches/gpu/check.py", "--small", "--out", folder / "out.json", *only],
        cwd=ROOT,
        env=os.environ | {"LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return dict(json.loads((folder / "out.json").read_text()))


def check(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(dict(one) for one in report["checks"] if one["name"] == name)


def test_the_client_is_held_against_the_truth_without_a_gpu(report: dict[str, Any]) -> None:
    client = check(report, "client")
    assert client["status"] == "ok"
    assert client["found"]["calibration"]["concurrency"] == client["found"]["streams"] == 16
    assert client["found"]["client"]["processes"] == 1
    assert client["found"]["ttft_off_ms"]["median"] <= client["found"]["ttft_off_ms"]["p99"]


def test_a_bundle_is_made_verified_and_deployed_without_a_gpu(report: dict[str, Any]) -> None:
    bundle = check(report, "bundle")
    assert (bundle["status"], bundle["found"]["gigabytes"]) == ("ok", 0.02)
    assert all(f"| {what}" in bundle["found"]["report"] for what in ("bundle create", "bundle verify", "deploy"))


def test_what_wants_a_model_says_that_none_was_brought(report: dict[str, Any]) -> None:
    energy = check(report, "energy")
    assert (energy["status"], "--models" in energy["why"]) == ("skipped", True)


@pytest.mark.parametrize("name", ["environment", "memory", "campaign"])
def test_what_wants_a_gpu_says_that_there_is_none(report: dict[str, Any], name: str) -> None:
    if report["machine"]["gpus"]:
        pytest.skip("this machine has a GPU")
    assert check(report, name)["status"] == "skipped"
    assert check(report, name)["why"].startswith("NVML: ")


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    """An archive that is laid out as llama.cpp's sources in an sdist, and whose server tells its version."""
    tree = {
        "CMakeLists.txt": "cmake_minimum_required(VERSION 3.18)\nproject(stub CXX)\nadd_subdirectory(tools/server)\n",
        "tools/server/CMakeLists.txt": "add_executable(llama-server server.cpp)\nset_target_properties(llama-server "
        "PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)\n",
        "tools/server/server.cpp": '#include <cstdio>\nint main() { std::puts("version: stub"); }\n',
    }
    return archive(tmp_path / "sources.tar.gz", {f"a-1.0/llama.cpp/{name}": text for name, text in tree.items()})


def archive(path: Path, files: dict[str, str], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as made:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            made.addfile(member, io.BytesIO(text.encode()))
        for name, to in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, to
            made.addfile(member)
    return path


@pytest.mark.skipif(shutil.which("cmake") is None, reason="there is no cmake on PATH")
def test_a_server_is_built_of_sources_that_were_brought_along(sdist: Path, tmp_path: Path) -> None:
    only = ("--only", "build", "--only", "energy")
    command = [
        sys.executable,
        "benches/gpu/check.py",
        "--small",
        "--build",
        sdist,
        "--out",
        tmp_path / "out.json",
        *only,
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads((tmp_path / "out.json").read_text())
    found = check(told, "build")["found"]
    assert (found["architecture"], found["said"]) == (None, "version: stub\n")
    assert "--models" in check(told, "energy")["why"]


@pytest.mark.parametrize(
    ("files", "links", "why"),
    [
        ({"../outside/tools/server/CMakeLists.txt": ""}, {}, "a path that leads out"),
        ({}, {"a/tools": "/etc"}, "no plain file or folder"),
        ({"a/setup.py": ""}, {}, "holds no llama.cpp"),
    ],
    ids=["a path that leads out", "a link", "another package"],
)
def test_what_is_no_sdist_of_llama_cpp_is_not_built(
    files: dict[str, str], links: dict[str, str], why: str, tmp_path: Path
) -> None:
    with pytest.raises(NotBuilt, match=why):
        unpacked(archive(tmp_path / "a.tar.gz", files, links), tmp_path / "into")
    assert not (tmp_path / "outside").exists()


def test_models_that_came_in_parts_are_put_together(tmp_path: Path) -> None:
    for number, text in enumerate("abc"):
        (tmp_path / f"m.gguf.part-{number:03}").write_text(text)
    (model,) = joined(tmp_path, tmp_path / "whole")
    assert (model.name, model.read_text()) == ("m.gguf", "abc")
    (tmp_path / "m.gguf.part-001").unlink()
    with pytest.raises(SystemExit, match="missing"):
        joined(tmp_path, tmp_path / "whole")


def test_parts_of_a_model_are_what_is_put_together_again(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(bytes(range(250)))
    carried = tmp_path / "carried"
    carried.mkdir()
    assert [part.stat().st_size for part in parts(model, carried, 100)] == [100, 100, 50]
    (whole,) = joined(carried, tmp_path / "whole")
    assert whole.read_bytes() == model.read_bytes()


def test_what_llama_cpp_is_not_compiled_of_is_not_carried(tmp_path: Path) -> None:
    files = {"CMakeLists.txt": "a", "models/v.gguf": "b", "src/models/llama.cpp": "c", "ggml/src/ggml-metal/m.m": "d"}
    sdist = archive(tmp_path / "all.tar.gz", {f"a-1.0/llama.cpp/{name}": text for name, text in files.items()})
    with tarfile.open(trimmed(sdist, tmp_path / "small.tar.xz")) as small:
        assert small.getnames() == ["a-1.0/llama.cpp/CMakeLists.txt", "a-1.0/llama.cpp/src/models/llama.cpp"]


@given(st.lists(st.integers(0, 100)))
def test_no_folder_weighs_more_than_it_may_and_nothing_is_left_behind(sizes: list[int]) -> None:
    weighed = {str(number): size for number, size in enumerate(sizes)}
    groups = shared_out(weighed.items(), 100)
    assert sorted(name for names in groups for name in names) == sorted(weighed)
    assert all(sum(weighed[name] for name in names) <= 100 for names in groups)


def test_what_no_folder_can_hold_is_an_error() -> None:
    with pytest.raises(ValueError, match="large has 101 bytes"):
        shared_out([("large", 101)], 100)


def test_a_check_that_there_is_no_time_left_for_is_skipped(tmp_path: Path) -> None:
    spent = Given(small=True, server=None, models=(), work=tmp_path, until=time.monotonic())
    outcome = made(CHECKS[0], spent)
    assert (outcome.status, outcome.why) == ("skipped", "the 480 s are spent")


def test_what_was_skipped_is_counted_and_is_not_ok(report: dict[str, Any]) -> None:
    assert report["counts"]["failed"] == 0
    assert report["counts"]["ok"] == sum(one["status"] == "ok" for one in report["checks"])
    assert report["counts"]["skipped"] >= 1
