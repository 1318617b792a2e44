"""An environment with one evaluation package, made once and kept: Python's own venv, and pip.

    python = interpreter(Package.INSPECT, (), cache, on_progress)

What belongs here: the recipe, and carrying it out so that an interrupted run begins anew and a whole one is found. What
does not: running an evaluation (`running`).

It lies below the cache folder, under a name that holds the recipe's digest, so that another recipe makes another
environment. All releases are pinned, in a file beside this module, made anew by
`uv pip compile --universal --python-version 3.11 --no-header --no-annotate -o inspect_ai.txt -` from the one line
`inspect_ai==VERSION` and what it needs to ask an OpenAI-compatible server. A marker, written last, says that it is
whole. Where no package registry can be reached, the error says so; an environment that is there needs none.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from milton_assets.vocabulary.digest import sha256_json, short
from milton_assets.vocabulary.evaluation import EvaluationFailed, Package
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.progress import OnProgress, Progress
from resources.servers.process import Command, running

MARKER = "milton-recipe.json"
FOLDER = "evaluations"
INSTALL_DEADLINE_S = 1200.0
_POLL_S = 1.0


@dataclass(frozen=True)
class Recipe:
    """What an environment holds: the pinned releases of a package, and those that a task needs beside it."""

    package: Package
    requires: tuple[str, ...] = ()

    @property
    def pins(self) -> str:
        """The releases, a line each."""
        return Path(__file__).with_name(f"{self.package.value}.txt").read_text(encoding="utf-8")

    @property
    def sha256(self) -> str:
        """Names the environment: what is installed, and for which Python."""
        return sha256_json([self.pins, sorted(self.requires), list(sys.version_info[:2])])

    def folder(self, cache: Path) -> Path:
        """Where the environment lies."""
        return cache / FOLDER / f"{self.package.value}-{short(self.sha256)}"


def interpreter(package: Package, requires: Sequence[str], cache: Path, on_progress: OnProgress) -> Path:
    """The Python of an environment with the package, which is made where it is not there.

    Raises `EvaluationFailed` with the last lines of what could not be installed.
    """
    recipe = Recipe(package, tuple(requires))
    folder = recipe.folder(cache)
    python = folder / "bin" / "python"
    if _is_whole(folder, recipe):
        return python
    with locked(folder.parent / f".{folder.name}.lock"):
        if _is_whole(folder, recipe):
            return python
        on_progress(Progress("evaluation environment", 0, 1, f"installing {package.value} in {folder}, once"))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        wanted = folder / "requirements.txt"
        write_atomic(wanted, recipe.pins)
        _step("venv", [sys.executable, "-m", "venv", str(folder)])
        pip = [str(python), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        _step("pip", [*pip, "--requirement", str(wanted)])
        if recipe.requires:
            _step("pip", [*pip, "--constraint", str(wanted), *recipe.requires])
        write_atomic(folder / MARKER, json.dumps({"sha256": recipe.sha256}))
        on_progress(Progress("evaluation environment", 1, 1, f"{package.value} is installed"))
    return python


def _is_whole(folder: Path, recipe: Recipe) -> bool:
    try:
        told = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and told.get("sha256") == recipe.sha256


def _step(name: str, argv: Sequence[str]) -> None:
    deadline = time.monotonic() + INSTALL_DEADLINE_S
    with running(Command(name, tuple(argv), {})) as child:
        while child.exit_status is None and time.monotonic() < deadline:
            child.wait(_POLL_S)
        if child.exit_status == 0:
            return
        how = child.ended() or f"did not end within {INSTALL_DEADLINE_S:g} s"
        failed = child.failed(how)
    raise EvaluationFailed(
        failed.problem, remedy="let this machine reach a package registry once; what is installed then stays"
    )
