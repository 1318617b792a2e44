"""Keys: what is a slug, and what is a run id."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import (
    MAX_KEY_LENGTH,
    BadKey,
    RunId,
    Slug,
    check_key,
    check_run_id,
    mint_run_id,
)


@pytest.mark.parametrize("key", ["v1.20260111.1425", "a", "A-b_c.d", "0", "x" * MAX_KEY_LENGTH])
def test_a_slug_is_returned_as_it_is(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key", ["", ".", "..", "a..b", "-a", "_a", "a/b", "a\\b", "a b", "a\n", "\n", "ä", "٣", "a\0", "x" * 129, 7, None]
)
def test_anything_else_is_refused(key: object) -> None:
    with pytest.raises(BadKey, match="is not a slug"):
        check_key(key)  # type: ignore[arg-type]


def test_the_refusal_names_what_the_key_was_for() -> None:
    with pytest.raises(BadKey, match=r"model version 'a/b'.*rename the model version"):
        check_key("a/b", "model version")


@given(st.text(max_size=140))
def test_a_slug_is_one_path_part_below_its_folder(text: str) -> None:
    try:
        key = check_key(text)
    except BadKey:
        return
    folder = Path("/state/models")
    assert (folder / key).resolve().parent == folder
    assert key.isascii()
    assert len(key) <= MAX_KEY_LENGTH


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}(\.[A-Za-z0-9_-]{1,40}){0,2}", fullmatch=True))
def test_every_dotted_name_is_a_slug(text: str) -> None:
    assert check_key(text) == text


@pytest.mark.parametrize("kind", [Slug, RunId])
def test_pydantic_reports_a_bad_key_as_a_field_error(kind: type) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python("a/b")


@pytest.mark.parametrize(
    "text",
    [
        "benchmark_20261301_000000",
        "benchmark_20260101_240000",
        "benchmark_20260101",
        "benchmark_20260101_000000\n",
        "Benchmark_20260101_000000",
        "",
    ],
)
def test_what_is_no_run_id_is_refused(text: str) -> None:
    with pytest.raises(BadKey, match="is not a benchmark run id"):
        check_run_id(text)


moments = st.datetimes(
    datetime(1900, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC) | st.just(timezone(timedelta(hours=5)))
)


@given(moments)
def test_a_minted_run_id_is_one_and_tells_the_second_in_utc(moment: datetime) -> None:
    run_id = check_run_id(mint_run_id(moment))
    assert run_id == moment.astimezone(UTC).strftime("benchmark_%Y%m%d_%H%M%S")
    assert re.fullmatch(r"benchmark_\d{8}_\d{6}", run_id)


@given(moments, st.integers(0, 5))
def test_a_minted_run_id_is_never_a_taken_one(moment: datetime, count: int) -> None:
    taken: set[str] = set()
    for _ in range(count):
        taken.add(mint_run_id(moment, taken))
    assert len(taken) == count
    assert mint_run_id(moment, taken) not in taken


def test_a_time_without_a_zone_mints_nothing() -> None:
    with pytest.raises(BadInput, match="no zone"):
        mint_run_id(datetime(2026, 1, 1))
