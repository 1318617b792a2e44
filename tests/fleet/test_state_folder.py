"""A state folder can be moved, copied and restored, as docs/state.md promises: with `mv`, `cp -a` and `tar`."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from milton_assets.vocabulary.state import StateDir
from tests.support.edge_bundles import make_bundle, read_manifest
from tests.support.shell import UNPROBED, milton, told
from tests.support.targets import let_serve, targets_of

pytestmark = pytest.mark.slow


def shell(*command: str | Path) -> None:
    subprocess.run([*map(str, command)], check=True)


@dataclass(frozen=True)
class Place:
    """A state folder that has deployed to `local`, inside it, and to `device`, beside it."""

    folder: Path
    device: Path

    def at(self, name: str) -> dict[str, str]:
        """The environment in which the state folder is the one of that name."""
        return {"MILTON_STATE_DIR": str(self.folder / name)}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path, tmp_path / "device")
    make_bundle(StateDir(tmp_path / "here").bundles, "v1")
    targets = targets_of(StateDir(tmp_path / "here"))
    bundle = next((tmp_path / "here" / "bundles").iterdir())
    for target in (targets.named("local"), targets.at(made.device)):
        let_serve(target, bundle)
    return made


def serves(target: Path) -> str:
    return read_manifest(target / "current").model_version


def test_nothing_in_it_is_an_absolute_path_but_what_lies_outside(place: Place) -> None:
    naming = [
        path.relative_to(place.folder / "here").as_posix()
        for path in (place.folder / "here").rglob("*")
        if path.is_file() and str(place.folder).encode() in path.read_bytes()
    ]
    assert len(naming) == 2
    assert all("path-device-" in name for name in naming), naming


def test_a_moved_folder_knows_its_history_and_changes_the_moved_device(place: Place) -> None:
    before = told("history", **place.at("here"))
    shell("mv", place.folder / "here", place.folder / "there")
    after = told("history", **place.at("there"))
    assert [one["id"] for one in after] == [one["id"] for one in before]
    assert {one["target_path"] for one in after} == {
        str(place.folder / "there/deployments/local"),
        str(place.device),
    }
    assert after[0]["bundle_path"].startswith(str(place.folder / "there/bundles/"))
    make_bundle(StateDir(place.folder / "there").bundles, "v2", counter=2)
    told("deploy", *UNPROBED, **place.at("there"))
    assert serves(place.folder / "there/deployments/local") == "v2"
    assert not (place.folder / "here").exists()


def test_a_moved_folder_keeps_its_targets_outside(place: Place) -> None:
    shell("mv", place.folder / "here", place.folder / "there")
    make_bundle(StateDir(place.folder / "there").bundles, "v2", counter=2)
    told("deploy", "--target-path", place.device, *UNPROBED, **place.at("there"))
    assert serves(place.device) == "v2"
    # It said where it is now: should somebody put a copy where it was, that copy is the one that is refused.
    shell("cp", "-a", place.folder / "there", place.folder / "here")
    assert (
        "one of the two state folders is a copy"
        in milton("deploy", "--target-path", place.device, *UNPROBED, **place.at("here")).stderr
    )


def test_a_copy_acts_on_its_own_device_and_never_on_the_originals(place: Place) -> None:
    shell("cp", "-a", place.folder / "here", place.folder / "copy")
    make_bundle(StateDir(place.folder / "copy").bundles, "v2", counter=2)
    told("deploy", *UNPROBED, **place.at("copy"))
    assert serves(place.folder / "copy/deployments/local") == "v2"
    assert serves(place.folder / "here/deployments/local") == "v1"
    (own, _) = told("status", **place.at("copy"))
    assert own["target_path"] == str(place.folder / "copy/deployments/local")


@pytest.mark.parametrize(
    "verb",
    [
        ("deploy", "--dry-run", *UNPROBED),
        ("deploy", *UNPROBED),
        ("rollback", *UNPROBED),
        ("recover",),
        ("gc",),
        ("gc", "--dry-run"),
    ],
    ids=" ".join,
)
def test_a_copy_refuses_to_touch_a_target_outside_it(place: Place, verb: tuple[str, ...]) -> None:
    shell("cp", "-a", place.folder / "here", place.folder / "copy")
    journal = (place.device / "journal.jsonl").read_bytes()
    done = milton(*verb, "--target-path", place.device, **place.at("copy"))
    assert done.returncode == 1
    assert f"belongs to {place.folder / 'here'}, which is there too" in done.stderr
    assert "milton target adopt" in done.stderr
    assert (place.device / "journal.jsonl").read_bytes() == journal


def test_a_copy_says_whose_a_target_outside_it_is_and_may_adopt_it(place: Place) -> None:
    shell("cp", "-a", place.folder / "here", place.folder / "copy")
    (outside,) = (one for one in told("status", **place.at("copy")) if one["target_path"] == str(place.device))
    assert "one of the two state folders is a copy" in outside["belongs_to"]
    told("target", "adopt", outside["target"], **place.at("copy"))
    assert told("status", "--target", outside["target"], **place.at("copy"))[0]["belongs_to"] is None
    refused = milton("recover", "--target", outside["target"], **place.at("here"))
    assert f"belongs to {place.folder / 'copy'}" in refused.stderr


def test_a_target_inside_another_state_folder_is_that_ones(place: Place) -> None:
    other = place.at("other")
    make_bundle(StateDir(place.folder / "other").bundles, "v3", counter=3)
    done = milton("deploy", "--target-path", place.folder / "here/deployments/local", *UNPROBED, **other)
    assert f"belongs to another state folder, {place.folder / 'here'}" in done.stderr
    fresh = place.folder / "here/deployments/fresh"
    assert milton("deploy", "--target-path", fresh, *UNPROBED, **other).returncode == 1
    assert not fresh.exists()


def test_a_device_policy_is_not_given_to_another_folders_target(place: Place) -> None:
    shell("cp", "-a", place.folder / "here", place.folder / "copy")
    told("keys", "init", **place.at("copy"))
    done = milton("device-policy", "init", "--target-path", place.device, **place.at("copy"))
    assert (done.returncode, "milton target adopt" in done.stderr) == (1, True)
    assert not (place.device / "device-policy.yaml").exists()


def test_a_backup_restored_to_its_place_works_as_before(place: Place) -> None:
    shell("tar", "-C", place.folder, "-cf", place.folder / "backup.tar", "here")
    shell("rm", "-rf", place.folder / "here")
    shell("tar", "-C", place.folder, "-xf", place.folder / "backup.tar")
    make_bundle(StateDir(place.folder / "here").bundles, "v2", counter=2)
    for target in ((), ("--target-path", place.device)):
        told("deploy", *target, *UNPROBED, **place.at("here"))
    assert [serves(place.folder / "here/deployments/local"), serves(place.device)] == ["v2", "v2"]


def test_a_target_whose_disk_is_not_mounted_is_not_made_anew_on_the_disk_below(place: Place) -> None:
    shell("mv", place.device, place.folder / "unplugged")
    place.device.mkdir()
    done = milton("deploy", "--target-path", place.device, *UNPROBED, **place.at("here"))
    assert done.returncode == 1
    assert f"is not at {place.device}, where it was" in done.stderr
    assert list(place.device.iterdir()) == []
    seen = milton("status", **place.at("here"))
    assert ("local (" in seen.stdout, "where it was" in seen.stderr, seen.returncode) == (True, True, 1)


def test_a_target_that_is_gone_for_good_can_be_forgotten_and_keeps_its_history(place: Place) -> None:
    (first,) = (one for one in told("history", **place.at("here")) if one["target_path"] == str(place.device))
    assert "is where it was" in milton("target", "forget", first["target"], **place.at("here")).stderr
    shell("rm", "-rf", place.device)
    assert "there is no target 'kitt'" in milton("target", "forget", "kitt", **place.at("here")).stderr
    told("target", "forget", first["target"], **place.at("here"))
    told("deploy", "--target-path", place.device, *UNPROBED, **place.at("here"))
    assert serves(place.device) == "v1"
    mirrored = (place.folder / "here/deployment_history" / f"{first['target']}.jsonl").read_text().splitlines()
    assert len(mirrored) == 2
