"""`milton-agent status` on a device: what it said last as long as that holds, and never what does not hold any more."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from milton_assets.agent.status_memo import SETTLED_S
from milton_assets.edge.deployment import deploy
from milton_assets.vocabulary.edge_target import target_in
from milton_assets.vocabulary.state import StateDir
from tests.support.crashing import clock
from tests.support.edge_bundles import make_bundle

ROOT = Path(__file__).parents[2]


class Device:
    """A device with a target, on which somebody asks the agent for its status, in a process of its own each time."""

    def __init__(self, root: Path) -> None:
        self.state = StateDir(root / "state")
        self.place = target_in(self.state, "kitchen")
        self._bundles = root / "bundles"

    def deploy(self, version: str, counter: int) -> None:
        bundle = make_bundle(self._bundles, version, counter=counter)
        deploy(bundle, self.place, load_test=None, actor="ada", now=clock)

    def status(self) -> tuple[dict[str, Any], bool]:
        """What it says, and whether it was made anew: then the nouns were loaded."""
        said, loaded = self.status_and_modules()
        return said, "pydantic" in loaded

    def status_and_modules(self) -> tuple[dict[str, Any], set[str]]:
        """What it says, and what was loaded to say it."""
        code = (
            "import sys; from milton_assets.agent.__main__ import main; main(['--target', 'kitchen', 'status']); "
            "sys.stderr.write(' '.join(sys.modules))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"MILTON_STATE_DIR": str(self.state.root)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout), set(done.stderr.split())


def test_what_a_status_does_not_need_is_not_loaded(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.deploy("v1", 1)
    said, loaded = device.status_and_modules()
    assert said["active"]["model_version"] == "v1"
    assert "milton_assets.edge.deployment.states" in loaded
    mine = {name.removeprefix("milton_assets.") for name in loaded if name.startswith("milton_assets.")}
    assert not {"concurrent.futures", "ctypes", "logging", "rfc8785", "asyncio", "subprocess", "ssl"} & loaded
    assert {name.partition(".")[0] for name in mine} == {"agent", "edge", "vocabulary"}
    assert not {
        name for name in mine if name.startswith(("edge.bundle", "edge.serving", "edge.canary", "edge.manifest"))
    }


@pytest.fixture
def kitchen(tmp_path: Path) -> Device:
    """One that has said its status since its files settled."""
    device = Device(tmp_path)
    device.deploy("v1", 1)
    time.sleep(SETTLED_S + 0.1)
    assert device.status()[1]
    return device


def test_what_was_said_is_said_again_without_loading_what_it_takes_to_make_it(kitchen: Device) -> None:
    said, anew = kitchen.status()
    assert not anew
    assert (said["active"]["model_version"], said["problems"], said["locked"]) == ("v1", [], False)
    (kitchen.state.agent / "kitchen" / "status.json").unlink()
    assert kitchen.status() == (said, True)


def test_after_a_deployment_it_is_made_anew_and_not_remembered_while_the_files_are_warm(kitchen: Device) -> None:
    kitchen.deploy("v2", 2)
    for _ in range(2):
        said, anew = kitchen.status()
        assert (said["active"]["model_version"], anew) == ("v2", True)


def test_a_link_that_somebody_moved_is_told(kitchen: Device) -> None:
    current = kitchen.place.path / "current"
    current.unlink()
    current.symlink_to("releases/" + "0" * 64)
    said, anew = kitchen.status()
    assert anew
    assert "the journal says" in said["problems"][0]


def test_a_release_that_is_gone_is_told(kitchen: Device) -> None:
    (kitchen.place.path / "current").resolve().rename(kitchen.state.root / "elsewhere")
    said, anew = kitchen.status()
    assert anew
    assert "which is not there" in said["problems"][0]


def test_while_somebody_works_on_the_target_it_says_so(kitchen: Device) -> None:
    with (kitchen.place.path / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said, anew = kitchen.status()
    assert (said["locked"], anew) == (True, True)
    assert kitchen.status()[0]["locked"] is False


def test_a_memo_that_is_none_is_passed_over(kitchen: Device) -> None:
    for memo in ("", "[]", '{"program": 1}', '{"said": "v9"}'):
        (kitchen.state.agent / "kitchen" / "status.json").write_text(memo)
        said, anew = kitchen.status()
        assert (said["active"]["model_version"], anew) == ("v1", True)
