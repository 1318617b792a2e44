"""Whose a target is: the id of a state folder, and what it proves together with a place."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.ownership import STATE_FILE, Claim, claim, known_owner, owner_around, owner_of


def test_a_state_folder_gets_its_id_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        owners = set(pool.map(owner_of, [tmp_path / "state"] * 32))
    assert len(owners) == 1
    assert known_owner(tmp_path / "state") in owners
    assert [path.name for path in (tmp_path / "state").iterdir()] == [STATE_FILE]


def test_asking_writes_nothing(tmp_path: Path) -> None:
    assert known_owner(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_recorded_nobody_is_for_whoever_asks(tmp_path: Path) -> None:
    assert claim(owner_of(tmp_path), None) is Claim.OURS


def test_the_folder_where_it_always_lay_is_the_owner(tmp_path: Path) -> None:
    recorded = owner_of(tmp_path)
    assert claim(owner_of(tmp_path), recorded) is Claim.OURS


def test_another_folder_is_not_the_owner(tmp_path: Path) -> None:
    assert claim(owner_of(tmp_path / "a"), owner_of(tmp_path / "b")) is Claim.FOREIGN


def test_a_copy_is_told_from_a_moved_folder_by_what_lies_where_it_was(tmp_path: Path) -> None:
    recorded = owner_of(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert claim(owner_of(tmp_path / "b"), recorded) is Claim.COPY
    shutil.rmtree(tmp_path / "a")
    assert claim(owner_of(tmp_path / "b"), recorded) is Claim.MOVED
    owner_of(tmp_path / "a")
    assert claim(owner_of(tmp_path / "b"), recorded) is Claim.MOVED


def test_whether_a_folder_on_another_machine_is_still_there_cannot_be_seen(tmp_path: Path) -> None:
    ours = owner_of(tmp_path).model_copy(update={"machine": "a" * 16})
    assert claim(ours, ours.model_copy(update={"machine": "b" * 16})) is Claim.OTHER_MACHINE
    assert claim(ours, ours.model_copy(update={"machine": ""})) is Claim.OURS


def test_what_lies_inside_a_state_folder_is_found_to_be_its(tmp_path: Path) -> None:
    owner = owner_of(tmp_path / "state")
    assert owner_around(tmp_path / "state" / "deployments" / "pi") == owner
    assert owner_around(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("content", ["", "{}", '{"format_version": 1, "id": "x"}', '{"format_version": 2}'])
def test_a_damaged_id_is_an_error_that_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / STATE_FILE).write_text(content)
    with pytest.raises(BadInput, match="holds no id of a state folder"):
        owner_of(tmp_path)
