"""Numbers, units and dates as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.tiers.reasoning.answers import DateAnswer, ListAnswer, NumberAnswer, TextAnswer
from milton_assets.tiers.reasoning.dates import dates
from milton_assets.tiers.reasoning.quantities import UNITS, convert, quantities
from milton_assets.tiers.reasoning.text import canonical, phrase, words


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("7", [7]),
        ("1,234,567", [1234567]),
        ("1 234 567", [1234567]),
        ("3.25", [3.25]),
        ("3,5", [3.5]),
        ("1,2,3", [1, 2, 3]),
        ("-4 degrees", [-4]),
        ("10-4", [10, 4]),
        ("3/4", [0.75]),
        ("1 1/2", [1.5]),
        ("½", [0.5]),
        ("2½", [2.5]),
        ("3 × 10^8", [3e8]),
        ("3x10^8", [3e8]),
        ("10²", [100]),
        ("6e3", [6000]),
        ("8 billion", [8e9]),
        ("twenty-one", [21]),
        ("one hundred and five", [105]),
        ("a hundred", [100]),
        ("three thousand two hundred and seven", [3207]),
        ("two million", [2e6]),
        ("two and a half", [2.5]),
        ("three quarters", [0.75]),
        ("half", [0.5]),
        ("half a dozen", [6]),
        ("two dozen", [24]),
        ("a quarter", [0.25]),
        ("forty-two cats and seven dogs", [42, 7]),
        ("H2O and CO2", []),
        ("the 18th century", []),
        ("someone told nobody", []),
        ("tent seventyfold", []),
        ("٣", [3]),
        ("", []),
    ],
)
def test_numbers_are_read(text: str, values: list[float]) -> None:
    assert [q.value for q in quantities(text)] == pytest.approx(values)


def test_ten_squared_is_a_power_not_a_hundred_and_two() -> None:
    assert canonical("10²") == "10^2"


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("5 km", "km"),
        ("5km", "km"),
        ("5 kilometres", "km"),
        ("5 Kilometers", "km"),
        ("90 km/h", "km/h"),
        ("25 m/s", "m/s"),
        ("25 metres per second", "m/s"),
        ("3 m²", "m2"),
        ("20 °C", "°C"),
        ("20 degrees Celsius", "°C"),
        ("15 %", "%"),
        ("15 per cent", "%"),
        ("5 minutes", "min"),
        ("five minutes", "min"),
        ("5-minute", "min"),
        ("5 apples", None),
        ("5 machines", None),
        ("5", None),
    ],
)
def test_the_unit_that_follows_is_read(text: str, symbol: str | None) -> None:
    unit = quantities(text)[0].unit
    assert (unit.symbol if unit else None) == symbol


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (1, "mi", "km", 1.609344),
        (12, "in", "ft", 1),
        (100, "°C", "°F", 212),
        (-40, "°F", "°C", -40),
        (0, "°C", "K", 273.15),
        (90, "km/h", "m/s", 25),
        (1, "m3", "l", 1000),
        (2, "wk", "d", 14),
        (1, "ha", "m2", 10000),
    ],
)
def test_units_of_one_dimension_convert(value: float, source: str, target: str, expected: float) -> None:
    assert convert(value, UNITS[source], UNITS[target]) == pytest.approx(expected)


@given(st.floats(-1e6, 1e6), st.sampled_from(sorted(UNITS)), st.data())
def test_converting_there_and_back_changes_nothing(value: float, source: str, data: st.DataObject) -> None:
    kin = [name for name, unit in UNITS.items() if unit.dimension == UNITS[source].dimension]
    target = data.draw(st.sampled_from(kin))
    there = convert(value, UNITS[source], UNITS[target])
    assert math.isclose(convert(there, UNITS[target], UNITS[source]), value, rel_tol=1e-9, abs_tol=1e-6)


@given(st.integers(0, 10**12))
def test_a_number_reads_the_same_with_and_without_separators(number: int) -> None:
    assert quantities(f"{number:,}")[0].value == quantities(str(number))[0].value == number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4 July 1776", [(1776, 7, 4)]),
        ("July the 4th, 1776", [(1776, 7, 4)]),
        ("4th of July", [(None, 7, 4)]),
        ("1776-07-04", [(1776, 7, 4)]),
        ("25/12/2021", [(2021, 12, 25)]),
        ("12/25/2021", [(2021, 12, 25)]),
        ("25.12.2021", [(2021, 12, 25)]),
        ("05/05/2021", [(2021, 5, 5)]),
        ("03/04/2021", []),
        ("July 1776", [(1776, 7, None)]),
        ("in 1776", [(1776, None, None)]),
        ("Sept 3 1939 and 8 May 1945", [(1939, 9, 3), (1945, 5, 8)]),
        ("99 May 1945", [(1945, 5, None)]),
        ("3.1415 and 17760", []),
        ("may be", []),
    ],
)
def test_dates_are_read(text: str, expected: list[tuple[int | None, int | None, int | None]]) -> None:
    assert [(d.year, d.month, d.day) for d in dates(text)] == expected


@given(st.dates())
def test_every_date_is_read_back_from_its_usual_spellings(date: object) -> None:
    from datetime import date as a_date

    assert isinstance(date, a_date)
    if not 1000 <= date.year <= 2999:
        return
    for spelled in (f"{date.day} {date:%B} {date.year}", f"{date:%B} {date.day}, {date.year}", f"{date:%Y-%m-%d}"):
        assert [(d.year, d.month, d.day) for d in dates(spelled)] == [(date.year, date.month, date.day)]


@given(st.text(max_size=200))
def test_canonical_text_is_stable(text: str) -> None:
    once = canonical(text)
    assert phrase(once) == phrase(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Hague", ("hague",)),
        ("Vitamin A", ("vitamin", "A".casefold())),
        ("A dog", ("dog",)),
        ("isn't", ("is", "not")),
        ("can't won't cannot", ("can", "not", "will", "not", "can", "not")),
        ("Newton's laws", ("newton", "laws")),
        ("the boys' club", ("boys", "club")),
        ("U.S.A.", ("usa",)),
        ("1,000 and 007", ("1000", "and", "7")),
        ("naïve Łódź straße", ("naive", "lodz", "strasse")),
    ],
)
def test_words_are_made_comparable(text: str, expected: tuple[str, ...]) -> None:
    assert phrase(text) == expected


def test_words_know_their_clause_and_sentence() -> None:
    found = words("Not here, but there. Then gone")
    assert [(w.text, w.clause, w.sentence) for w in found] == [
        ("not", 0, 0), ("here", 0, 0), ("but", 1, 0), ("there", 1, 0), ("then", 2, 1), ("gone", 2, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("gold", "shown"),
    [
        (TextAnswer(accept=("Paris", "Lutetia")), "Paris"),
        (NumberAnswer(value=273.15, unit="K"), "273.15 K"),
        (NumberAnswer(value=10000), "10000"),
        (DateAnswer(year=1969, month=7, day=20), "20 July 1969"),
        (DateAnswer(year=1969, month=7), "July 1969"),
        (DateAnswer(month=7, day=14), "14 July"),
        (DateAnswer(year=1492), "1492"),
        (ListAnswer(items=(("red",), ("green", "verdant"))), "red, green"),
    ],
)
def test_a_gold_answer_is_shown_for_people(gold: TextAnswer, shown: str) -> None:
    assert gold.shown() == shown
