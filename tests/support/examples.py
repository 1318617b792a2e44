"""Packages of `examples`, installed beside the suite's environment.

What belongs here: installing one. What does not: using it.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def install_example(name: str, folder: Path) -> Path:
    """The folder below `folder` that the example is installed in, without a network: by pip, or by uv where an
    environment of its making has no pip."""
    target, source = folder / "site", folder / "source"
    shutil.copytree(EXAMPLES / name, source)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(target))
    pip = ["uv", "pip", "install", "--python", sys.executable]
    if importlib.util.find_spec("pip") is not None:
        pip = [sys.executable, "-m", "pip", "install"]
    done = subprocess.run([*pip, *options, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target
