"""Graph and command line mean the same target by a name, and a campaign that was moved tells the same story."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from milton_assets.edge.bundle.keys import init_keys
from tests.support.shell import milton, told
from tests.support.workplace import competent, failure_of, workplace

RUN = "benchmark_20260101_000000"
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("moved state")]


@dataclass(frozen=True)
class Moved:
    """What was told before the folder was moved, and the environment in which it lies where it is now."""

    kit: Path
    root: Path
    guarded: dict[str, Any]
    refused: str
    history: list[dict[str, Any]]
    environment: dict[str, str]


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moved]:
    """A campaign that deployed to `local` and was refused by `kit`, which settings place elsewhere; then moved."""
    root = tmp_path_factory.mktemp("moved")
    kit, place = root / "kit", root / "before"
    place.mkdir()
    settings = {"MILTON_TARGETS": f"kit={kit}"}
    with workplace(place, settings=settings) as wp:
        wp.register("good", competent())
        for job, partition in (("benchmark_model", "good"), ("promote", RUN), ("deploy", "local")):
            result = wp.run(job, partition)
            assert result.success, failure_of(result)
        init_keys(wp.state.keys)
        here = {"MILTON_STATE_DIR": str(wp.state.root), **settings}
        guarded = told("device-policy", "init", "--target", "kit", **here)
        refused = failure_of(wp.run("deploy", "kit"))
        history = told("history", **here)
    subprocess.run(["mv", place, root / "after"], check=True)
    there = {"MILTON_STATE_DIR": str(root / "after/state"), "DAGSTER_HOME": str(root / "after/dagster"), **settings}
    yield Moved(kit, root / "after", guarded, refused, history, there)


def test_the_device_that_the_command_line_guards_is_the_one_that_the_graph_deploys_to(moved: Moved) -> None:
    assert moved.guarded["path"] == str(moved.kit / "device-policy.yaml")
    assert "bears no signature" in moved.refused
    assert [(one["target"], one["target_path"]) for one in moved.history][-1] == ("kit", str(moved.kit))


def test_a_moved_campaign_is_traced_to_its_weights_where_they_lie_now(moved: Moved) -> None:
    done = milton("trace", moved.history[0]["id"], **moved.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{moved.root}/state/bundles/" in done.stdout
    assert f"the measured file, as it lies at {moved.root}/state/models/" in done.stdout
    assert "before" not in done.stdout.replace("before it", "")


def test_a_moved_campaign_tells_where_its_bundle_and_its_deployments_are(moved: Moved) -> None:
    done = milton("results", **moved.environment)
    assert done.returncode == 0, done.stderr
    assert f"bundle      {moved.root}/state/bundles/milton_edge_bundle_good" in done.stdout
    assert f"on local: {moved.root}/state/deployments/local" in done.stdout


def test_a_moved_campaign_keeps_its_history_and_its_device(moved: Moved) -> None:
    after = told("history", **moved.environment)
    assert [one["id"] for one in after] == [one["id"] for one in moved.history]
    (kit, local) = told("target", "list", **moved.environment)
    assert (local["name"], local["health"]["model_version"]) == ("local", "good")
    assert kit["url"] == moved.kit.as_uri()
