"""A device behind a real sshd on a loopback port, for the tests of targets elsewhere."""

from __future__ import annotations

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
    return sshd.reached_from(tmp_path / "client", monkeypatch)
