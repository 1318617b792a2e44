"""Champion and challenger: what was deployed, and what was promoted and is not deployed yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from milton_assets.usecases.aliases import name_challenger, name_champion
from milton_assets.vocabulary.registry import CHALLENGER, CHAMPION, RegistryStore
from milton_assets.vocabulary.state import StateDir
from resources.registries import open_registry


def never(said: str) -> None:
    pytest.fail(said)


@pytest.fixture
def store(state: StateDir) -> RegistryStore:
    return open_registry(None, state)


def test_what_was_promoted_challenges_and_what_was_deployed_is_champion(store: RegistryStore, state: StateDir) -> None:
    name_challenger(store, "v1", never)
    assert store.aliases() == {CHALLENGER: "v1"}
    name_champion(store, "v1", never)
    assert store.aliases() == {CHAMPION: "v1"}
    name_challenger(store, "v1", never)
    assert store.aliases() == {CHAMPION: "v1"}
    name_challenger(store, "v2", never)
    assert store.aliases() == {CHAMPION: "v1", CHALLENGER: "v2"}
    assert not state.registry.exists(), "a campaign never writes into the trainer's file"


def test_an_alias_that_cannot_be_set_is_told_and_nothing_else(state: StateDir) -> None:
    told: list[str] = []
    name_champion(open_registry("mlflow+http://127.0.0.1:9/#m", state), "m-v1", told.append)
    assert "m-v1 was deployed" in told[0]
    assert "does not answer" in told[0]


def test_a_damaged_alias_file_is_told(store: RegistryStore, state: StateDir) -> None:
    told: list[str] = []
    beside = Path(state.root / "models/registry.aliases.json")
    beside.parent.mkdir(parents=True)
    beside.write_text("{half")
    name_challenger(store, "v1", told.append)
    assert "does not hold" in told[0]
    assert beside.read_text() == "{half"
