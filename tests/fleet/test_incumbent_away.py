"""Who serves on a device that is away: what it told when it was last heard."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from milton_assets.fleet.local import LocalMeans
from milton_assets.fleet.target import DeployRequest, RollbackRequest
from milton_assets.fleet.targets import Targets
from milton_assets.usecases.incumbent import incumbent_of
from milton_assets.vocabulary.state import StateDir
from resources.inventory import inventory_of
from tests.support.crashing import healthy
from tests.support.edge_bundles import make_bundle
from tests.support.targets import targets_of

pytestmark = pytest.mark.slow
BY_HAND = DeployRequest(actor="ada", health_rounds=0)


def unused_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


@pytest.mark.parametrize(("goes_back", "serves"), [(False, "v2"), (True, "v1")], ids=["deployed", "rolled-back"])
def test_of_a_device_that_is_away_what_it_told_last_counts_and_is_noted(
    tmp_path: Path, goes_back: bool, serves: str
) -> None:
    state, bundles = StateDir(tmp_path / "state"), tmp_path / "bundles"
    near = Targets(state, LocalMeans(lambda: healthy, inventory_of)).named("kit")
    for bundle in (make_bundle(bundles, "v1"), make_bundle(bundles, "v2", counter=2)):
        near.deploy(bundle, BY_HAND)
    if goes_back:
        near.rollback(RollbackRequest(actor="ada"))
    targets = targets_of(state, {"kit": f"ssh://nobody@127.0.0.1:{unused_port()}"})
    notes: list[str] = []
    assert incumbent_of([targets.named("kit")], mirrored=targets.mirrored, on_note=notes.append) == serves
    assert len(notes) == 1
    assert notes[0].startswith("kit is away (")
    assert notes[0].endswith(f" UTC, it served {serves}")
    assert targets.mirrored("kit")[-1].id in notes[0]


def test_a_device_that_was_never_heard_serves_nothing_that_is_known(tmp_path: Path) -> None:
    targets = targets_of(StateDir(tmp_path), {"kit": f"ssh://nobody@127.0.0.1:{unused_port()}"})
    assert incumbent_of([targets.named("kit")], mirrored=targets.mirrored, on_note=pytest.fail) is None
