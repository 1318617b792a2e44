"""A real MLflow server of a test's own, on a free port of this machine, with SQLite and proxied artefacts.

What belongs here: starting and ending it. What does not: the environment it runs in (`tests.mlflow.mlflow_env`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from resources.servers.process import free_port
from tests.mlflow.mlflow_env import make

DEADLINE_S = 240.0


@contextmanager
def own_mlflow(folder: Path) -> Iterator[str]:
    """Its host and port; all it keeps is in `folder`."""
    program, port = make(), free_port()
    command = [str(program), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    places = ["--backend-store-uri", f"sqlite:///{folder}/m.db", "--artifacts-destination", str(folder / "artefacts")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, *places], stdout=log, stderr=log, cwd=folder, start_new_session=True)
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, folder / "log")
            yield f"127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=5).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.3)
    raise AssertionError(log.read_text()[-3000:])
