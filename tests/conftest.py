"""Fixtures that every part's tests may use: real small weights, and a state folder of one's own.

What belongs here: what more than one part needs. What does not: helpers of one part; those are in `tests/support`.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from milton_assets.settings import load_settings
from milton_assets.vocabulary.state import StateDir
from resources.demo_models import SMOLLM2, in_quantization
from resources.wheel_models import fetch

# A shell that starts the tests in the background has SIGINT ignored, and every process they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Many tests share the machine, so no measurement has it alone; what watches it has tests of its own.
os.environ.setdefault("MILTON_WATCH_MACHINE", "0")

# How long an example takes says more about the machine than about the code. The examples are the same in every run, so
# that no change fails for what it did not touch; `make fuzz` looks for new ones.
settings.register_profile("milton", deadline=None, derandomize=True)
settings.load_profile("milton")


def pytest_collection_finish() -> None:
    """Let no garbage collection look at what modules and tests hold from here on: some libraries ask for one a call."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_dagster_instance_of_another_test() -> None:
    """Dagster remembers the storage of the instance entered last in a context variable, by a weak reference.

    A test that ends by an interrupt may leave it behind, and the next one would resolve a dead instance.
    """
    if "dagster" in sys.modules:
        from dagster._core.storage.defs_state.base import _current_storage

        _current_storage.set(None)


@pytest.fixture(scope="session")
def small_gguf() -> Path:
    """SmolLM2-135M-Instruct Q4_1, downloaded once for all workers and sessions. Read only."""
    return fetch(SMOLLM2, load_settings().cache_dir)


@pytest.fixture(scope="session")
def requantised_gguf(small_gguf: Path) -> Callable[[str], Path]:
    """`requantised_gguf("Q8_0")`: the small model in another quantisation, made once and kept. Read only."""

    def made(quantization: str = "Q8_0") -> Path:
        return in_quantization(small_gguf, quantization)

    return made


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a real MLflow server; tests that use it are of the xdist group `mlflow`, so that one will do."""
    from tests.support.own_mlflow import own_mlflow

    with own_mlflow(tmp_path_factory.mktemp("mlflow")) as address:
        yield address


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateDir:
    """An empty state folder that the environment points at, so that subprocesses find it too."""
    folder = StateDir(tmp_path / "state")
    monkeypatch.setenv("MILTON_STATE_DIR", str(folder.root))
    return folder


@pytest.fixture(scope="session")
def fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a stand-in for NVIDIA's library, compiled here."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to make a stand-in for NVML with")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).parent / "support" / "fake_nvml.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return folder
