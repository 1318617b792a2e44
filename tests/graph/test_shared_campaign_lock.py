"""One campaign at a time between hosts that share a Postgres. Its restart, and the command: `test_cluster`."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from milton_assets.vocabulary.errors import MiltonError
from resources.shared_campaign_lock import held_between_hosts, holder_between_hosts
from tests.support.cluster import create_database, end, postgres, wait_until

pytestmark = pytest.mark.slow

HOLD = "import sys; from resources.shared_campaign_lock import held_between_hosts\n"
HOLD += "with held_between_hosts(sys.argv[1], wait=False, on_wait=print): print('held', flush=True); sys.stdin.read()"


@pytest.fixture(scope="module")
def url():
    """A real Postgres."""
    with tempfile.TemporaryDirectory(prefix="milton-lock-") as folder:
        server = postgres(Path(folder))
        server.up()
        try:
            create_database(server.port)
            yield f"postgresql+psycopg2://milton:milton@127.0.0.1:{server.port}/milton"
        finally:
            server.down(signal.SIGINT)


@pytest.fixture
def holder(url, tmp_path):
    """A process of another host, with a folder of its own, that holds the lock."""
    command = [sys.executable, "-c", HOLD, url]
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path, env={"PYTHONPATH": str(root)},
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout.readline() == b"held\n"
    yield process
    process.stdin.close()
    end(process)


def test_the_lock_of_another_host_refuses_and_names_its_holder(url, holder):
    refused = pytest.raises(MiltonError, match=rf"campaign of process {holder.pid} on ")
    with refused, held_between_hosts(url, wait=False, on_wait=print):
        pass


def test_a_killed_holder_holds_nothing_and_who_waits_gets_it(url, holder):
    told = []

    def kill(what):
        told.append(what)
        end(holder, signal.SIGKILL)

    with held_between_hosts(url, wait=True, on_wait=kill):
        assert "on" in str(holder_between_hosts(url))
    assert [f"process {holder.pid}" in what for what in told] == [True]
    wait_until(lambda: holder_between_hosts(url) is None, 10, "the end of the lock")
