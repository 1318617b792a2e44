"""A candidate's reference: found by its entry, and opened only to be asked what is not known of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from milton_assets.usecases.references import Asking, forcing_of, reference_of
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.forcing import ReferenceNotToBeHad
from milton_assets.vocabulary.registry import Artefact, ArtefactKind, RegistryEntry, RegistryUnreadable
from milton_assets.vocabulary.server import Endpoint, RunningServer
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.tier_spec import NoReference, Reference
from resources.evidence_store import EvidenceStore
from resources.registries.json_file import add_entries, new_entry
from resources.registry_resource import RegistryResource
from tests.support.forced_model import model
from tests.support.gguf_file import tiny_gguf

ORIGINAL, MADE = model(1), model(2)
SERVER = ServerFingerprint(name="llama.cpp (embedded)", build="1", launched_by_us=True)
ASKED: Any = {"first": 2, "places": 3, "top": 5}


class Serving:
    """A launcher whose models are in this process; `started` are the names it was asked for."""

    def __init__(self) -> None:
        self.started: list[str] = []

    @contextmanager
    def serve(self, artefact: Path, model: str) -> Iterator[RunningServer]:
        self.started.append(model)
        yield RunningServer(Endpoint("http://127.0.0.1:9", model, forcing=ORIGINAL), SERVER)


@pytest.fixture
def registry(state: StateDir) -> RegistryResource:
    return RegistryResource(state_root=str(state.root))


def register(
    state: StateDir, version: str, seed: int, base_model: str = "org/base", tokens: tuple[str, ...] = (), **extra: Any
) -> None:
    path = state.root / "models" / version / "model.gguf"
    path.parent.mkdir(parents=True)
    tiny_gguf(path, seed=seed, tokens=tokens)
    gguf = str(path.relative_to(state.root))
    add_entries(state.registry, {version: new_entry(base_model, gguf=gguf, extra=extra)})


def asking(state: StateDir, launcher: Serving | None) -> Asking:
    served = RunningServer(Endpoint("http://127.0.0.1:9", "made", forcing=MADE), SERVER)
    return Asking(served, launcher, EvidenceStore(state.benchmarks), {})


def found(registry: RegistryResource, how: Asking, version: str = "made") -> Reference | NoReference:
    entry = registry.entry(version)
    return reference_of(entry, artefact_of(entry), registry.store(), registry.files(), how)


def artefact_of(entry: RegistryEntry) -> Artefact:
    return entry.artefact(ArtefactKind.GGUF)


@pytest.mark.parametrize("how", ["reference", "base_model"])
def test_it_is_another_entry_that_is_named(state: StateDir, registry: RegistryResource, how: str) -> None:
    register(state, "original", 0)
    register(state, "made", 1, **{how: "original"})
    reference = found(registry, asking(state, Serving()))
    assert isinstance(reference, Reference)
    assert (reference.name, reference.artefact_sha256) == ("original", artefact_of(registry.entry("original")).sha256)


@pytest.mark.parametrize("how", ["reference", "base_model"])
def test_it_is_a_file_that_is_named_by_its_path(state: StateDir, registry: RegistryResource, how: str) -> None:
    register(state, "original", 0)
    register(state, "made", 1, **{how: "models/original/model.gguf"})
    reference = found(registry, asking(state, Serving()))
    assert isinstance(reference, Reference)
    assert reference.artefact_sha256 == artefact_of(registry.entry("original")).sha256


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({}, "names no reference, and its base model 'org/base' is neither"),
        ({"reference": "none"}, "is registered as having no reference"),
        ({"reference": "elsewhere"}, "its reference 'elsewhere' is neither a registered version nor a GGUF"),
        ({"reference": "models/gone.gguf"}, "does not hold: the GGUF .*gone.gguf is missing"),
        ({"reference": "/etc/passwd.gguf"}, "does not hold: the path .* leads to"),
        ({"reference": "made"}, "is neither a registered version"),
        ({"reference": "twin"}, "twin, its reference, has the same weights"),
        ({"reference": "stranger"}, "stranger, its reference, cannot be compared with: the tokenizers differ"),
    ],
    ids=["names none", "wants none", "unknown", "missing", "outside", "itself", "same weights", "another tokenizer"],
)
def test_without_one_it_is_said_why(state: StateDir, registry: RegistryResource, named: Any, says: str) -> None:
    register(state, "made", 1, **named)
    register(state, "twin", 1)
    register(state, "stranger", 2, tokens=("a", "b"))
    entry = registry.entry("made")
    store = registry.store()
    mine = artefact_of(entry).model_copy(update={"tokenizer_sha256": "0" * 64})
    if named.get("reference") == "twin":
        mine = artefact_of(entry)
    answer = reference_of(entry, mine, store, registry.files(), asking(state, Serving()))
    assert isinstance(answer, NoReference)
    assert re.search(says, answer.why), answer.why


def test_a_registry_that_cannot_be_read_now_is_no_candidate_without_a_reference(
    state: StateDir, registry: RegistryResource
) -> None:
    """Without a reference no gate on fidelity is held: that must be the entry's doing, not an outage's."""
    register(state, "original", 0)
    register(state, "made", 1, reference="original")
    entry = registry.entry("made")
    state.registry.write_text("{")
    with pytest.raises(RegistryUnreadable):
        reference_of(entry, artefact_of(entry), registry.store(), registry.files(), asking(state, Serving()))


def test_it_is_served_once_for_all_candidates(state: StateDir, registry: RegistryResource) -> None:
    register(state, "original", 0)
    register(state, "made", 1, reference="original")
    register(state, "too", 2, reference="original")
    launcher = Serving()
    for version in ("made", "too"):
        reference = found(registry, asking(state, launcher), version)
        assert isinstance(reference, Reference)
        with reference.forcing() as forcing:
            assert forcing.forced("a text of some words", **ASKED) == ORIGINAL.forced("a text of some words", **ASKED)
    assert launcher.started == ["original"]


def test_what_a_candidate_said_of_itself_serves_as_its_reference_later(
    state: StateDir, registry: RegistryResource
) -> None:
    register(state, "original", 0)
    register(state, "made", 1, reference="original")
    launcher, how = Serving(), asking(state, None)
    itself = forcing_of(artefact_of(registry.entry("original")), how)
    assert itself is not None
    said = itself.forced("a text of some words", **ASKED)
    reference = found(registry, asking(state, launcher))
    assert isinstance(reference, Reference)
    with reference.forcing() as forcing:
        assert forcing.forced("a text of some words", **ASKED) == said
    assert launcher.started == []


def test_where_somebody_else_serves_it_cannot_be_had(state: StateDir, registry: RegistryResource) -> None:
    register(state, "original", 0)
    register(state, "made", 1, reference="original")
    reference = found(registry, asking(state, None))
    assert isinstance(reference, Reference)
    with reference.forcing() as forcing, pytest.raises(ReferenceNotToBeHad, match="somebody else runs"):
        forcing.forced("a text of some words", **ASKED)


def test_a_reference_that_is_no_text_quarantines_its_entry(state: StateDir, registry: RegistryResource) -> None:
    register(state, "made", 1)
    text = state.registry.read_text().replace('"base_model"', '"reference": 7,\n "base_model"')
    state.registry.write_text(text)
    assert "reference: Input should be a valid string" in registry.read().quarantined[0].reason
