"""A real OCI registry (Debian's `docker-registry`) on loopback, with or without a password.

What belongs here: starting and ending it. What does not: what is pushed to it.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from resources.servers.process import free_port

USER, PASSWORD = "trainer", "open sesame"
HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n"
"""USER and the bcrypt of PASSWORD: the registry reads no other kind, and Python makes none."""


@dataclass(frozen=True)
class OwnRegistry:
    """Where it answers, `HOST:PORT`, and the folder that it keeps blobs in."""

    host: str
    storage: Path

    def blob_files(self) -> list[Path]:
        """Every stored blob."""
        return sorted((self.storage / "docker/registry/v2/blobs").rglob("data"))


@contextmanager
def own_registry(folder: Path, *, locked: bool = False) -> Iterator[OwnRegistry]:
    """Serve until the block ends, to USER alone when it is `locked`; skip without the program, which `.ci/run` has."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    port = free_port()
    storage = folder / "storage"
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    if locked:
        (folder / "htpasswd").write_text(HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
        try:
            _wait(f"http://127.0.0.1:{port}/v2/", process, folder / "log")
            yield OwnRegistry(f"127.0.0.1:{port}", storage)
        finally:
            process.terminate()
            process.wait(timeout=30)


def docker_config(home: Path, host: str, user: str, password: str) -> None:
    """What `docker login` leaves behind in that home folder."""
    (home / ".docker").mkdir(parents=True)
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (home / ".docker/config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            pytest.fail(f"docker-registry ended: {log.read_text()[-2000:]}")
        try:
            if httpx.get(url, trust_env=False).status_code in {200, 401}:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail("docker-registry does not answer")
