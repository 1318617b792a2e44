"""The median of everybody else's value, for everybody at once."""

from __future__ import annotations

from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from milton_assets.statistics.samples import medians_of_others


@given(st.dictionaries(st.text(max_size=2), st.integers(-50, 50).map(float), min_size=2, max_size=9))
def test_it_is_the_median_of_the_rest(values: dict[str, float]) -> None:
    assert medians_of_others(values) == {
        name: median(value for other, value in values.items() if other != name) for name in values
    }


def test_one_alone_has_no_others() -> None:
    assert medians_of_others({"alone": 1.0}) == {}
