"""The canonical JSON that is digested: RFC 8785's own examples, and what it refuses."""

from __future__ import annotations

import json
import math
import struct
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.vocabulary.digest import NotCanonical, canonical_json, sha256_json
from milton_assets.vocabulary.metric import Direction

text = st.text(st.characters(codec="utf-8"), max_size=20)
safe_integers = st.integers(-(2**53) + 1, 2**53 - 1)
json_values = st.recursive(
    st.none() | st.booleans() | safe_integers | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)

NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}
"""RFC 8785, appendix B: a double's bits and how it is written."""


@pytest.mark.parametrize(("bits", "written"), NUMBERS.items(), ids=NUMBERS)
def test_a_number_is_written_as_the_rfcs_table_has_it(bits: str, written: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_json(number) == written
    assert canonical_json(json.loads(written)) == written


@pytest.mark.parametrize("bits", ["7fffffffffffffff", "7ff0000000000000", "fff0000000000000"])
def test_a_number_that_the_rfcs_table_calls_an_error_is_refused(bits: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    with pytest.raises(NotCanonical, match="no canonical JSON"):
        canonical_json({"a": [number]})


def test_keys_are_sorted_as_the_rfcs_example_has_them() -> None:
    """Section 3.2.3: by UTF-16 units, so that what takes two of them stands before U+FB33."""
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    written = canonical_json(dict.fromkeys(keys))
    assert list(json.loads(written)) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_the_rfcs_sample_is_written_as_there() -> None:
    """Section 3.2.2."""
    sample = r"""{
        "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
        "literals": [null, true, false]
    }"""
    assert canonical_json(json.loads(sample)) == (
        r'{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        r'"string":"€$\u000f\nA'
        r"""'B\"\\\\\"/"}"""
    )


def shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(each) for each in value] if isinstance(value, list) else value


@given(json_values)
def test_it_says_the_same_whatever_the_order_of_keys(value: Any) -> None:
    assert canonical_json(shuffled(value)) == canonical_json(value)
    assert sha256_json(shuffled(value)) == sha256_json(value)


@given(json_values)
def test_it_is_read_back_as_it_was_and_written_again_the_same(value: Any) -> None:
    once = canonical_json(value)
    assert canonical_json(json.loads(once)) == once
    assert json.loads(once, parse_int=float) == json.loads(json.dumps(value), parse_int=float)


@given(json_values | st.floats(1e-9, 1e-3) | st.floats(1e14, 1e18))
def test_it_writes_what_the_package_of_that_name_writes(value: Any) -> None:
    assert canonical_json(value).encode() == rfc8785.dumps(value)


def test_a_subclass_is_written_as_what_it_is_one_of() -> None:
    class Pair(NamedTuple):
        one: int
        other: float

    value = {"enum": Direction.LOWER, "pair": Pair(1, np.float64(0.5)), "map": OrderedDict(b=True, a=None)}
    assert canonical_json(value) == '{"enum":"lower","map":{"a":null,"b":true},"pair":[1,0.5]}'


@given(st.floats(2.0**53, 1e22) | st.floats(-1e22, -(2.0**53)))
def test_a_whole_number_beyond_the_safe_integers_comes_out_the_same_again(number: float) -> None:
    once = canonical_json([number])
    assert canonical_json(json.loads(once)) == once


@pytest.mark.parametrize(
    "number",
    [2**53 + 1, -(2**53) - 1, 2**60, 2**64 - 1, 10**21, 10**4000],
    ids=["2^53+1", "-2^53-1", "2^60", "2^64-1", "10^21", "10^4000"],
)
def test_an_integer_that_no_double_is_written_as_is_refused_with_what_to_do(number: int) -> None:
    with pytest.raises(NotCanonical, match=r"the integer .* doubles.* next: write it as a string"):
        canonical_json({"a": [number]})


def test_a_whole_float_and_an_integer_are_one_number() -> None:
    assert canonical_json([1.0, 1, -0.0]) == "[1,1,0]"


@pytest.mark.parametrize(
    "value",
    [math.nan, "\ud800", {"\udfff": 1}, {1: 2}, {1, 2}, b"bytes"],
    ids=["nan", "half a pair", "half a pair as a key", "a key that is no string", "a set", "bytes"],
)
def test_what_json_does_not_have_is_refused(value: Any) -> None:
    with pytest.raises(NotCanonical, match="no canonical JSON"):
        canonical_json(value)


def test_what_is_nested_without_end_is_refused() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(NotCanonical, match="nested too deeply"):
        canonical_json(value)
