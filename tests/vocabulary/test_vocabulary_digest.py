"""Digests of bytes, files and folders."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from milton_assets.vocabulary.digest import (
    Sha256,
    sha256_bytes,
    sha256_file,
    sha256_listing,
    short,
)

text = st.text(st.characters(codec="utf-8"), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100))
def test_a_files_digest_is_that_of_its_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "f").write_bytes(data)
    assert sha256_file(tmp_path / "f") == sha256_bytes(data) == hashlib.sha256(data).hexdigest()


def test_a_large_file_is_hashed_in_constant_memory(tmp_path: Path) -> None:
    data = b"0123456789abcdef" * (3 << 16) + b"tail"
    (tmp_path / "f").write_bytes(data)
    tracemalloc.start()
    digest = sha256_file(tmp_path / "f")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert digest == hashlib.sha256(data).hexdigest()
    assert peak_bytes < 2 << 20


@given(st.dictionaries(text, st.just("0" * 64), max_size=5))
def test_a_folders_digest_does_not_depend_on_the_order(listing: dict[str, str]) -> None:
    assert sha256_listing(listing) == sha256_listing(dict(reversed(listing.items())))


def test_a_folders_digest_follows_names_and_contents() -> None:
    listings = [{"a": "0"}, {"b": "0"}, {"a": "1"}, {"a": "0", "b": "0"}, {}]
    assert len({sha256_listing(listing) for listing in listings}) == len(listings)


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n"])
def test_what_is_no_lower_case_sha256_is_refused(digest: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Sha256).validate_python(digest)


def test_short_is_the_first_twelve_digits() -> None:
    assert short("0123456789abcdef") == "0123456789ab"
