"""A place that holds nothing is one thing, and a place that nobody can ask is another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from upath import UPath

from milton_assets.vocabulary.documents import Documents, create
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.places import NoAnswer, asking, lies
from milton_assets.vocabulary.registry import RegistryUnreadable
from milton_assets.vocabulary.state import StateDir
from resources.evidence_store import EvidenceStore
from resources.registries import open_registry
from resources.registries.artefact_cache import reading
from tests.support.object_store import nobody_answers, object_store


@pytest.fixture(scope="module")
def bucket():
    with object_store() as made:
        yield made


@pytest.fixture
def away(monkeypatch):
    with nobody_answers() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield "s3://bucket/models"


@pytest.mark.parametrize("kind", ["folder", "object store"])
def test_a_file_lies_there_or_it_does_not(kind, tmp_path, bucket):
    place = tmp_path if kind == "folder" else bucket / tmp_path.name
    (place / "deep" / "file").parent.mkdir(parents=True, exist_ok=True)
    (place / "deep" / "file").write_bytes(b"x")
    assert [lies(place / name) for name in ("deep/file", "deep", "deep/none", "none/none")] == [True, *[False] * 3]


def test_a_store_that_does_not_answer_holds_neither_something_nor_nothing(away):
    store, documents = EvidenceStore(away), Documents(UPath(away))
    asked = [
        lambda: lies(UPath(away) / "v1"),
        lambda: store.has("a/b.parquet"),
        lambda: store.read("a/b.parquet"),
        lambda: store.read_bytes("a/b.parquet", "0" * 64),
        lambda: store.digest("a/b.parquet"),
        lambda: store.latest("registry_entry", "v1"),
        lambda: store.put("registry_entry", "v1", b"x", suffix=".html"),
        lambda: store.keep("a/b.parquet", b"x"),
        lambda: documents.read("one"),
        lambda: documents.names(),
        lambda: documents.change("one", lambda _: b"{}"),
        lambda: create(UPath(away) / "one", b"{}"),
    ]
    for ask in asked:
        with pytest.raises(NoAnswer, match=r"s3://bucket/models.* cannot be asked: .*AWS_ENDPOINT_URL"):
            ask()


def test_a_registry_whose_store_does_not_answer_is_not_one_that_is_missing(away, tmp_path):
    registry = open_registry(f"{away}/registry.json", StateDir(tmp_path))
    for ask in (registry.read, registry.registered, lambda: registry.judged("v1")):
        with pytest.raises(RegistryUnreadable, match="cannot be asked"):
            ask()
    with pytest.raises(RegistryUnreadable, match="cannot be asked"), reading(UPath(away)):
        lies(UPath(away) / "v1" / "model.gguf")


def test_what_is_no_fault_of_the_store_is_raised_as_it_is(tmp_path):
    with pytest.raises(BadInput, match="an odd one"), asking(tmp_path):
        raise BadInput("an odd one")


def test_a_command_says_that_nobody_answers_and_what_to_look_at(away, tmp_path):
    environment = {**os.environ, "MILTON_EVIDENCE_URL": away, "MILTON_STATE_DIR": str(tmp_path)}
    told = subprocess.run(
        [Path(sys.executable).parent / "milton", "results"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (told.returncode, told.stdout) == (1, "")
    assert "`milton results` could not go on: s3://bucket/models/runs cannot be asked" in told.stderr
    assert "AWS_ENDPOINT_URL" in told.stderr
    assert "Traceback" not in told.stderr
