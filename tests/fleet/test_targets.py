"""Which targets there are, and where."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from milton_assets.fleet.local import LocalTarget
from milton_assets.fleet.marks import write_mark
from milton_assets.fleet.target import Target
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


def mark(targets: Targets, target: Target) -> None:
    assert isinstance(target, LocalTarget)
    write_mark(targets.state, target.place, datetime.now(UTC))


def test_a_custom_target_is_found_by_its_name_once_it_was_changed(targets: Targets, tmp_path: Path) -> None:
    target = targets.at(tmp_path / "device")
    mark(targets, target)
    assert targets.named(target.name) == target
    assert targets.all() == (target,)


def test_a_target_in_a_moved_state_folder_is_where_it_was_moved_to(targets: Targets, tmp_path: Path) -> None:
    mark(targets, targets.named("pi"))
    mark(targets, targets.at(targets.state.root / "odd" / "place"))
    names = targets.names()
    moved = targets_of(StateDir(targets.state.root.rename(tmp_path / "moved")))
    assert moved.names() == names
    assert all(target.url.startswith((tmp_path / "moved").as_uri()) for target in moved.all())
    assert moved.at(tmp_path / "moved" / "odd" / "place").name in names


@pytest.mark.parametrize("content", ["", "no json", "[]", "{}", '{"place": 3}'])
def test_a_mark_that_names_no_place_is_a_clear_error(targets: Targets, content: str) -> None:
    targets.state.targets.mkdir(parents=True)
    (targets.state.targets / "pi.json").write_text(content)
    with pytest.raises(BadInput, match="does not say where the target pi is"):
        targets.named("pi")


def test_a_mark_that_leaves_the_state_folder_is_refused(targets: Targets) -> None:
    mark(targets, targets.named("pi"))
    path = targets.state.targets / "pi.json"
    path.write_text(path.read_text().replace("deployments/pi", "../pi"))
    with pytest.raises(BadInput, match="leaves its folder"):
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
        ("gopher://pi@kitchen/srv/edge", "nothing here speaks 'gopher'.*a URL of file: or ssh:"),
        ("ssh://pi:secret@kitchen", "it holds a password"),
        ("relative/folder", "an absolute folder, or a URL"),
        ("file://elsewhere/srv/edge", "file:///an/absolute/folder"),
        ("file:relative", "file:///an/absolute/folder"),
    ],
    ids=["unknown", "password", "relative", "other host", "relative url"],
)
def test_a_place_that_nothing_speaks_to_says_what_would_do(targets: Targets, place: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        targets_of(targets.state, {"pi": place}).named("pi")
