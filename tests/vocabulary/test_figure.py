"""Figures as people read them."""

from __future__ import annotations

import pytest

from milton_assets.vocabulary.figure import figure, span


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (12345678.0, "12,345,678"),
        (1234.5, "1,234"),
        (104.23, "104"),
        (99.95, "100"),
        (83.14, "83.1"),
        (9.999, "10.0"),
        (0.5, "0.500"),
        (-0.25, "-0.250"),
        (0.04567, "0.0457"),
        (1.5e-9, "1.50e-09"),
        (0.0, "0.00"),
        (float("inf"), "inf"),
    ],
)
def test_a_figure_has_three_significant_digits_and_keeps_its_whole_ones(value: float, shown: str) -> None:
    assert figure(value) == shown


def test_an_interval_is_two_figures() -> None:
    assert span(195.04, 234.0) == "195–234"
