"""Documents that several change: of two changes at once neither is lost, in a folder and in an object store."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from upath import UPath

from milton_assets.vocabulary.documents import Documents, create
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.places import is_here
from tests.support.object_store import object_store


@pytest.fixture(scope="module")
def bucket():
    with object_store() as made:
        yield made


@pytest.fixture(params=["folder", "object store"])
def documents(request, tmp_path, bucket):
    return Documents(tmp_path / "runs" if request.param == "folder" else bucket / tmp_path.name / "runs")


def longer(raw: bytes | None) -> bytes:
    return (raw or b"") + b"x"


def test_a_document_is_what_it_was_changed_to_last(documents):
    assert (documents.names(), documents.read("first")) == ((), None)
    for name in ("second", "first", "first.pi5"):
        documents.change(name, lambda _: b"{}")
    documents.change("first", longer)
    assert documents.names() == ("first", "first.pi5", "second")
    assert (documents.read("first"), documents.read("second")) == (b"{}x", b"{}")


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path):
    (tmp_path / "runs").write_bytes(b"")
    with pytest.raises(OSError, match="runs"):
        Documents(tmp_path / "runs").names()


def test_a_name_that_is_no_key_is_refused(documents):
    for ask in (documents.read, lambda name: documents.change(name, longer)):
        with pytest.raises(BadInput, match="document"):
            ask("../elsewhere")


def test_in_a_folder_none_of_many_changes_at_once_is_lost(tmp_path):
    documents = Documents(tmp_path)
    threads = [threading.Thread(target=documents.change, args=("one", longer)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert documents.read("one") == b"x" * 8
    assert (tmp_path / "one.json").is_file()


def test_in_an_object_store_whoever_was_slower_changes_what_the_faster_one_wrote(bucket):
    documents = Documents(bucket / "faster")
    asked = []

    def slowly(raw):
        asked.append(raw)
        if len(asked) == 1:
            Documents(bucket / "faster").change("one", lambda _: b"the other's, ")
        return (raw or b"") + b"mine"

    documents.change("one", slowly)
    assert asked == [None, b"the other's, "]
    assert documents.read("one") == b"the other's, mine"


def test_an_object_is_created_once(bucket):
    place = bucket / "once.json"
    assert (create(place, b"first"), create(place, b"second")) == (True, False)
    assert place.read_bytes() == b"first"


@pytest.mark.parametrize(
    ("place", "here"),
    [(Path("/srv"), True), (UPath("/srv"), True), (UPath("file:///srv"), True), (UPath("memory://srv"), False)],
    ids=["path", "upath", "file URL", "object store"],
)
def test_a_folder_of_this_machine_is_told_from_an_object_store(place, here):
    assert is_here(place) is here
