"""Which targets there are, and where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from milton_assets.fleet.local import LocalTarget
from milton_assets.fleet.targets import Targets
from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.state import StateDir
from tests.support.targets import targets_of


@pytest.fixture
def targets(tmp_path: Path) -> Targets:
    return targets_of(StateDir(tmp_path / "state"))


def test_a_named_target_lies_in_the_state_folder(targets: Targets) -> None:
    target = targets.resolve(name="pi")
    assert target.url == (targets.state.deployments / "pi").as_uri()


def test_the_default_target_is_called_local(targets: Targets) -> None:
    assert targets.resolve().name == "local"


def test_a_named_target_may_lie_elsewhere(targets: Targets, tmp_path: Path) -> None:
    targets = targets_of(targets.state, {"pi": str(tmp_path / "mnt")})
    assert targets.resolve(name="pi").url == (tmp_path / "mnt").as_uri()
    assert targets.resolve(path=tmp_path / "mnt").name == "pi"
    assert [t.name for t in targets.all()] == ["pi"]


def test_a_custom_path_gets_a_name_of_its_own(targets: Targets, tmp_path: Path) -> None:
    one, two = targets.at(tmp_path / "a" / "my disk"), targets.at(tmp_path / "b" / "my disk")
    assert one.name.startswith("path-my-disk-")
    assert one.name != two.name
    assert targets.at(tmp_path / "b" / ".." / "a" / "my disk") == one


def test_a_path_in_the_state_folder_is_the_named_target(targets: Targets) -> None:
    assert targets.at(targets.state.deployments / "pi") == targets.named("pi")


def test_a_custom_target_is_found_by_its_name_once_it_has_a_history(targets: Targets, tmp_path: Path) -> None:
    target = targets.at(tmp_path / "device")
    mirror = targets.state.deployment_history / f"{target.name}.jsonl"
    mirror.parent.mkdir(parents=True)
    mirror.write_text(json.dumps({"target_path": str(tmp_path / "device")}) + "\n")
    assert targets.named(target.name) == target
    assert targets.all() == (target,)


@pytest.mark.parametrize("line", ["", "no json", "[]", "{}", '{"target_path": 3}', '{"target_path": "relative"}'])
def test_a_history_that_names_no_path_is_a_clear_error(targets: Targets, line: str) -> None:
    mirror = targets.state.deployment_history / "pi.jsonl"
    mirror.parent.mkdir(parents=True)
    mirror.write_text(line + "\n")
    with pytest.raises(BadInput, match="target path"):
        targets.named("pi")


def test_a_name_and_a_path_together_are_refused(targets: Targets) -> None:
    with pytest.raises(BadInput, match="both"):
        targets.resolve(name="pi", path=Path("/x"))


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a..b", "x" * 200])
def test_a_name_that_is_no_slug_is_refused(targets: Targets, name: str) -> None:
    with pytest.raises(BadInput, match="slug"):
        targets.named(name)


def test_a_relative_target_path_is_refused() -> None:
    with pytest.raises(BadInput, match="relative"):
        EdgeTarget("pi", Path("x"))


@pytest.mark.parametrize("place", ["file:///srv/edge", "/srv/edge", "file://localhost/srv/edge"])
def test_a_folder_may_be_named_by_path_or_by_url(targets: Targets, place: str) -> None:
    target = targets_of(targets.state, {"pi": place}).named("pi")
    assert isinstance(target, LocalTarget)
    assert target.place.path == Path("/srv/edge")


def test_a_folder_with_odd_characters_is_found_by_its_url(targets: Targets, tmp_path: Path) -> None:
    target = targets.at(tmp_path / "a b%#?ü")
    assert isinstance(target, LocalTarget)
    assert target.place.path == tmp_path / "a b%#?ü"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("ssh://pi@kitchen/srv/edge", "nothing here speaks 'ssh'.*a URL of file:"),
        ("relative/folder", "an absolute folder, or a URL"),
        ("file://elsewhere/srv/edge", "file:///an/absolute/folder"),
        ("file:relative", "file:///an/absolute/folder"),
    ],
    ids=["ssh", "relative", "other host", "relative url"],
)
def test_a_place_that_nothing_speaks_to_says_what_would_do(targets: Targets, place: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        targets_of(targets.state, {"pi": place}).named("pi")
