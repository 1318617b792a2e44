"""A device behind a real sshd on a loopback port, for the tests of targets elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.own_sshd import OwnSshd, free_port


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[OwnSshd]:
    """An sshd of the test's own, running."""
    own = OwnSshd(tmp_path / "sshd", free_port())
    own.start()
    yield own
    own.stop()


@pytest.fixture
def device_url(sshd: OwnSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The device's URL, for a person whose `ssh` has its key and knows its host."""
    client = sshd.client(tmp_path / "client")
    sshd.know(client)
    monkeypatch.setenv("PATH", f"{client}{os.pathsep}{os.environ['PATH']}")
    return f"ssh://{sshd.user}@127.0.0.1:{sshd.port}"
