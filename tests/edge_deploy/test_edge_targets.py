"""Which targets there are, and where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.state import StateDir
from resources.edge_targets import EdgeTargets


@pytest.fixture
def targets(tmp_path: Path) -> EdgeTargets:
    return EdgeTargets(StateDir(tmp_path / "state"))


def test_a_named_target_lies_in_the_state_folder(targets: EdgeTargets) -> None:
    target = targets.resolve(name="pi")
    assert target.path == targets.state.deployments / "pi"
    assert target.history_file == targets.state.deployment_history / "pi.jsonl"


def test_the_default_target_is_called_local(targets: EdgeTargets) -> None:
    assert targets.resolve().name == "local"


def test_a_named_target_may_lie_elsewhere(targets: EdgeTargets, tmp_path: Path) -> None:
    targets = EdgeTargets(targets.state, {"pi": tmp_path / "mnt"})
    assert targets.resolve(name="pi").path == tmp_path / "mnt"
    assert targets.resolve(path=tmp_path / "mnt").name == "pi"
    assert [t.name for t in targets.all()] == ["pi"]


def test_a_custom_path_gets_a_name_of_its_own(targets: EdgeTargets, tmp_path: Path) -> None:
    one, two = targets.at(tmp_path / "a" / "my disk"), targets.at(tmp_path / "b" / "my disk")
    assert one.name.startswith("path-my-disk-")
    assert one.name != two.name
    assert targets.at(tmp_path / "b" / ".." / "a" / "my disk") == one


def test_a_path_in_the_state_folder_is_the_named_target(targets: EdgeTargets) -> None:
    assert targets.at(targets.state.deployments / "pi") == targets.named("pi")


def test_a_custom_target_is_found_by_its_name_once_it_has_a_history(targets: EdgeTargets, tmp_path: Path) -> None:
    target = targets.at(tmp_path / "device")
    assert target.history_file is not None
    target.history_file.parent.mkdir(parents=True)
    target.history_file.write_text(json.dumps({"target_path": str(target.path)}) + "\n")
    assert targets.named(target.name) == target
    assert targets.all() == (target,)


@pytest.mark.parametrize("line", ["", "no json", "[]", "{}", '{"target_path": 3}', '{"target_path": "relative"}'])
def test_a_history_that_names_no_path_is_a_clear_error(targets: EdgeTargets, line: str) -> None:
    mirror = targets.state.deployment_history / "pi.jsonl"
    mirror.parent.mkdir(parents=True)
    mirror.write_text(line + "\n")
    with pytest.raises(BadInput, match="target path"):
        targets.named("pi")


def test_a_name_and_a_path_together_are_refused(targets: EdgeTargets) -> None:
    with pytest.raises(BadInput, match="both"):
        targets.resolve(name="pi", path=Path("/x"))


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a..b", "x" * 200])
def test_a_name_that_is_no_slug_is_refused(targets: EdgeTargets, name: str) -> None:
    with pytest.raises(BadInput, match="slug"):
        targets.named(name)


def test_a_relative_target_path_is_refused() -> None:
    with pytest.raises(BadInput, match="relative"):
        EdgeTarget("pi", Path("x"))
