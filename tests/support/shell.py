"""The `milton` command as a shell calls it, in a process of its own.

What belongs here: calling it and reading what it told. What does not: assertions about any verb.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_CALL = "import sys; from milton_assets.cli.app import main; sys.argv[0] = 'milton'; main()"
UNPROBED = ("--no-load-test", "--health-rounds", "0")
"""Deploy without a model server."""


def milton(*arguments: str | Path, **environment: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command, with these variables besides the process's own."""
    return subprocess.run(
        [sys.executable, "-c", _CALL, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {name: str(value) for name, value in environment.items()},
    )


def begun(*arguments: str | Path, **environment: str | Path) -> subprocess.Popen[bytes]:
    """The command, running, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", _CALL, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {name: str(value) for name, value in environment.items()},
    )


def told(*arguments: str | Path, **environment: str | Path) -> Any:
    """What it tells machines. Raises `AssertionError` unless it succeeds."""
    done = milton(*arguments, "--json", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
