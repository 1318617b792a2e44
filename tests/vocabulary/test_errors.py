"""How errors list the names that there are."""

from __future__ import annotations

import pytest

from milton_assets.vocabulary.errors import one_of


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["v1"], "one of v1"),
        (["seed", "smoke"], "one of seed, smoke"),
        (["a", "b", "c", "d"], "one of a, b and 2 more"),
        (["two words", "", "\x1b[2J"], "one of 'two words', '' and 1 more"),
    ],
)
def test_names_are_listed_as_people_write_them_and_long_lists_are_cut(names: list[str], told: str) -> None:
    assert one_of(names, 2) == told
