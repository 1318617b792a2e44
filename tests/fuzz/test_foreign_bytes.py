"""Whatever bytes arrive, a parser reads them or refuses them in its own words; what once was a fault stays mended."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.damage import damaged
from tests.fuzz.parsers import PARSERS
from tests.fuzz.run import FOUND, search, try_bytes


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_right_is_read(name: str) -> None:
    for raw in PARSERS[name].seeds():
        PARSERS[name].read(raw)


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_input_is_read_or_refused(name: str, data: st.DataObject) -> None:
    parser = PARSERS[name]
    try_bytes(parser, data.draw(damaged(parser.seeds(), parser.words)))


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_fault_that_was_found_stays_mended(path: Path) -> None:
    try_bytes(PARSERS[path.parent.name.replace("-", " ")], path.read_bytes())


def test_the_search_finds_a_fault_and_its_smallest_input() -> None:
    from tests.fuzz.parsers import Parser

    def read(raw: bytes) -> None:
        if b"\xff" in raw:
            raise IndexError("a fault")

    tried, raw, why = search(Parser(read, lambda: (b"some valid input",)), until=float("inf"), start=0)
    assert raw is not None
    assert b"\xff" in raw
    assert why == "IndexError: a fault"
    assert tried > 0
