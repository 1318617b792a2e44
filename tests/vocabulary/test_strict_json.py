"""JSON and JSON Lines from outside: what is refused is said, with its line; nothing ends in a traceback."""

from __future__ import annotations

import json
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.strict_json import json_lines, parse_json, text_lines

LINE_SEPARATOR = "\u2028"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
REFUSED = {
    "half a line": (b'{"a": 1', "no valid JSON"),
    "two values": (b"1 2", "Extra data"),
    "a key twice": (b'{"a": 1, "a": 1}', "the key 'a' appears twice"),
    "a key twice, deep down": (b'[{"b": {"a": 1, "a": 2}}]', "the key 'a' appears twice"),
    "NaN": (b"[NaN]", "NaN is no JSON number"),
    "infinity": (b"[-Infinity]", "-Infinity is no JSON number"),
    "a number too large": (b"[1e999]", "the number 1e999 is too large"),
    "4,301 digits": (b"1" * 4301, "4300"),
    "100,000 brackets": (b"[" * 100_000, "nested too deeply"),
    "100,000 objects": (b'{"a":' * 100_000, "nested too deeply"),
    "half of a surrogate pair": (b'["\\ud83d"]', "half of a surrogate pair"),
    "half of a pair as a key": (b'{"\\uDE00": 1}', "half of a surrogate pair"),
    "no UTF-8": (b'["\xff"]', "byte 2"),
    "UTF-16": ('["a"]'.encode("utf-16"), "not UTF-8"),
    "a NUL": (b'["a\0"]', "no valid JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_strict_json_is_refused_with_what_is_wrong(name: str) -> None:
    raw, says = REFUSED[name]
    with pytest.raises(BadInput) as refused:
        parse_json(raw, "it")
    assert refused.value.problem.startswith("it is no valid JSON")
    assert says in str(refused.value)


@pytest.mark.parametrize("name", REFUSED)
def test_a_line_that_is_refused_is_named_by_its_number(name: str) -> None:
    raw, _ = REFUSED[name]
    lines = json_lines(b"{}\n\n" + raw + b"\n", "set.jsonl")
    assert next(lines).value == {}
    with pytest.raises(BadInput, match=r"set\.jsonl:3"):
        next(lines)


def test_a_whole_surrogate_pair_is_one_character() -> None:
    assert parse_json(b'"\\ud83d\\ude00"', "it") == "\U0001f600"


@given(VALUES)
def test_what_json_writes_is_read_back(value: object) -> None:
    assert parse_json(json.dumps(value), "it") == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode(), "it") == value


@given(st.lists(VALUES, max_size=6), st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\n"]), st.booleans())
def test_lines_are_read_back_whatever_stands_between_them(values: list[object], between: str, mark: bool) -> None:
    text = between.join(json.dumps(value, ensure_ascii=False) for value in values)
    raw = text.encode("utf-8-sig" if mark else "utf-8")
    for source in (raw, BytesIO(raw)):
        assert [line.value for line in json_lines(source, "it")] == values


def test_a_line_ends_in_a_line_feed_and_in_nothing_else() -> None:
    raw = f'["a{LINE_SEPARATOR}b\x85c"]\n[2]'.encode()
    found = list(json_lines(raw, "it"))
    assert [(line.number, line.where) for line in found] == [(1, "it:1"), (2, "it:2")]
    assert found[0].value == [f"a{LINE_SEPARATOR}b\x85c"]


def test_a_line_longer_than_allowed_is_refused_before_it_is_read_whole() -> None:
    class Endless(BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            assert size == 11
            return b"x" * size

    with pytest.raises(BadInput, match="it:1 is beyond the limits"):
        next(text_lines(Endless(), "it", max_line_bytes=10))


def test_more_lines_than_allowed_are_refused() -> None:
    lines = json_lines(b"1\n2\n3\n", "it", max_lines=2)
    assert [next(lines).value, next(lines).value] == [1, 2]
    with pytest.raises(BadInput, match="it:3"):
        next(lines)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        list(json_lines(raw, "it"))
    except BadInput as refused:
        assert refused.problem.startswith("it:")
