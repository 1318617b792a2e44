"""Numbers in what a model wrote: digits, number words, fractions, powers of ten, and the unit that follows.

What belongs here: reading quantities and converting between units of one dimension. What does not: deciding which
of several numbers is the answer (`matching`).

Conversion factors: SI Brochure (BIPM, 9th edition), the international yard and pound agreement of 1959, and
NIST Special Publication 811 for temperatures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from milton_assets.tiers.reasoning.numerals import SCALES, SMALL
from milton_assets.tiers.reasoning.text import NUMBER, canonical, digits_as_number

_GROUPS = {"hundred": 100, "dozen": 12}
_PARTS = {"half": 0.5, "quarter": 0.25, "quarters": 0.25}
_WORDS = "|".join(sorted([*SMALL, *_GROUPS, *_PARTS, *SCALES], key=len, reverse=True))
_WORD_NUMBER = rf"\b(?:a )?(?:{_WORDS})\b(?:(?: and a | and |-| a | )(?:{_WORDS})\b)*"
_QUANTITY = re.compile(
    rf"(?P<minus>\b(?:minus|negative) )?(?:(?P<words>{_WORD_NUMBER})"
    rf"|(?P<sign>(?<![\w)])-)?(?P<digits>{NUMBER})"
    rf"(?:(?P<fraction> ?/ ?(?P<denominator>[1-9]\d{{0,17}})(?![\d/]))"
    rf"|(?: (?P<top>\d{{1,18}})/(?P<bottom>[1-9]\d{{0,17}})(?!\d)))?"
    rf"(?:\^(?P<raised>-?\d{{1,6}})(?!\d))?"
    rf"(?: *(?:[×x*·⋅]|times) *10 ?\^ ?(?P<power>-?\d{{1,6}})(?!\d)|[eE](?P<exponent>[+-]?\d{{1,6}})\b)?"
    rf"(?: (?P<scale>{'|'.join(SCALES)})\b)?)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Unit:
    """A unit: its dimension, and how a value in it becomes the dimension's base (`value * factor + offset`)."""

    symbol: str
    dimension: str
    factor: float
    offset: float = 0.0


@dataclass(frozen=True)
class Quantity:
    """A number as written, its unit when a known one follows, and its place in the canonical text."""

    value: float
    unit: Unit | None
    start: int
    end: int


def _table() -> dict[str, Unit]:
    rows: list[tuple[str, str, float, float, str]] = [
        ("m", "length", 1, 0, "metre metres meter meters"),
        ("km", "length", 1e3, 0, "kilometre kilometres kilometer kilometers"),
        ("cm", "length", 1e-2, 0, "centimetre centimetres centimeter centimeters"),
        ("mm", "length", 1e-3, 0, "millimetre millimetres millimeter millimeters"),
        ("in", "length", 0.0254, 0, "inch inches"),
        ("ft", "length", 0.3048, 0, "foot feet"),
        ("yd", "length", 0.9144, 0, "yard yards"),
        ("mi", "length", 1609.344, 0, "mile miles"),
        ("kg", "mass", 1, 0, "kilogram kilograms kilo kilos"),
        ("g", "mass", 1e-3, 0, "gram grams"),
        ("mg", "mass", 1e-6, 0, "milligram milligrams"),
        ("t", "mass", 1e3, 0, "tonne tonnes"),
        ("lb", "mass", 0.45359237, 0, "pound pounds lbs"),
        ("s", "time", 1, 0, "second seconds sec secs"),
        ("min", "time", 60, 0, "minute minutes mins"),
        ("h", "time", 3600, 0, "hour hours hr hrs Hrs"),
        ("d", "time", 86400, 0, "day days"),
        ("wk", "time", 604800, 0, "week weeks"),
        ("K", "temperature", 1, 0, "kelvin kelvins"),
        ("°C", "temperature", 1, 273.15, "celsius|degrees celsius|degree celsius|degrees c"),
        ("°F", "temperature", 5 / 9, 273.15 - 32 * 5 / 9, "fahrenheit|degrees fahrenheit|degree fahrenheit|degrees f"),
        ("l", "volume", 1e-3, 0, "litre litres liter liters"),
        ("ml", "volume", 1e-6, 0, "millilitre millilitres milliliter milliliters"),
        ("m3", "volume", 1, 0, "m^3|cubic metre|cubic metres|cubic meter|cubic meters"),
        ("m2", "area", 1, 0, "m^2|square metre|square metres|square meter|square meters"),
        ("km2", "area", 1e6, 0, "km^2|square kilometre|square kilometres|square kilometer|square kilometers"),
        ("ha", "area", 1e4, 0, "hectare hectares"),
        ("m/s", "speed", 1, 0, "metres per second|meters per second|metre per second|meter per second"),
        ("km/h", "speed", 1 / 3.6, 0, "kph|kilometres per hour|kilometers per hour|kilometres an hour"),
        ("mph", "speed", 0.44704, 0, "mi/h|miles per hour|mile per hour|miles an hour"),
        ("bit/s", "data rate", 1, 0, "bps|bits per second"),
        ("kbit/s", "data rate", 1e3, 0, "kbps|Kbps|kilobits per second"),
        ("Mbit/s", "data rate", 1e6, 0, "Mbps|Mb/s|megabits per second"),
        ("Gbit/s", "data rate", 1e9, 0, "Gbps|Gb/s|gigabits per second"),
        ("B", "data", 1, 0, "byte bytes"),
        ("kB", "data", 1e3, 0, "kilobyte kilobytes"),
        ("%", "ratio", 1e-2, 0, "percent|per cent"),
    ]  # fmt: skip
    table: dict[str, Unit] = {}
    for symbol, dimension, factor, offset, names in rows:
        unit = Unit(symbol, dimension, factor, offset)
        spelled = names.split("|") if "|" in names else names.split(" ")
        table |= dict.fromkeys([*spelled, symbol], unit)
    return table


UNITS = _table()
"""Every known spelling of a unit. Symbols are case-sensitive (`K` is no `k`), names are not."""

_UNIT_AT = re.compile(
    r"[ -]?(" + "|".join(re.escape(name) for name in sorted(UNITS, key=len, reverse=True)) + r")(?![\w/^])"
)
_UNIT_NAME_AT = re.compile(
    r"[ -]?("
    + "|".join(re.escape(name) for name in sorted(UNITS, key=len, reverse=True) if len(name) > 3)
    + r")(?![\w/^])",
    re.IGNORECASE,
)


@lru_cache(maxsize=4096)
def quantities(text: str) -> tuple[Quantity, ...]:
    """Every number written in `text`, in order."""
    return tuple(_quantities(canonical(text)))


def convert(value: float, source: Unit, target: Unit) -> float:
    """`value` in `source` as a value in `target`; the caller has checked that the dimensions agree."""
    return (value * source.factor + source.offset - target.offset) / target.factor


def _quantities(text: str) -> Iterator[Quantity]:
    last_end = -1
    for match in _QUANTITY.finditer(text):
        start, end = match.span()
        if match["digits"] and _is_part_of_a_word(text, match.start("digits"), end):
            continue
        value = _spelled(match["words"]) if match["words"] else _digits(match)
        if match["minus"]:
            # "16 minus 10" takes away, "minus 10" is a number of its own.
            takes_away = match["minus"].lower() == "minus " and last_end >= 0 and text[last_end:start].strip() == ""
            start, value = (match.end("minus"), value) if takes_away else (start, -value)
        unit, end = _unit_at(text, end)
        last_end = end
        yield Quantity(value, unit, start, end)


def _is_part_of_a_word(text: str, start: int, end: int) -> bool:
    # "H2O" and "CO2" hold no number; "18th" is an ordinal, "25m" is a quantity.
    before = start > 0 and text[start - 1].isalpha()
    return before or bool(re.match(r"(?:st|nd|rd|th)\b", text[end : end + 3], re.IGNORECASE))


def _digits(match: re.Match[str]) -> float:
    value = digits_as_number(match["digits"])
    if match["denominator"]:
        value /= int(match["denominator"])
    elif match["top"]:
        value += int(match["top"]) / int(match["bottom"])
    power = int(match["power"] or match["exponent"] or 0)
    value = _or_infinite(lambda: value ** int(match["raised"] or 1) * 10.0**power)
    value *= SCALES[match["scale"].lower()] if match["scale"] else 1
    return -value if match["sign"] else value


def _or_infinite(compute: Callable[[], float]) -> float:
    """What no float can hold, or nought to a negative power, is no number that could match an answer."""
    try:
        return compute()
    except (OverflowError, ZeroDivisionError):
        return float("inf")


def _spelled(phrase: str) -> float:
    total = current = 0.0
    previous = ""
    for word in re.split(r"[\s-]+", phrase.lower()):
        if word in SMALL:
            current += SMALL[word]
        elif word in _PARTS:
            # "two and a half" adds, "three quarters" multiplies, "half" stands alone.
            current = current * _PARTS[word] if previous in SMALL else current + _PARTS[word]
        elif word in _GROUPS:
            current = (current or 1.0) * _GROUPS[word]
        elif word in SCALES:
            total, current = total + (current or 1) * SCALES[word], 0.0
        previous = word
    return total + current


def _unit_at(text: str, position: int) -> tuple[Unit | None, int]:
    if match := _UNIT_AT.match(text, position):
        return UNITS[match[1]], match.end()
    if match := _UNIT_NAME_AT.match(text, position):
        return UNITS[match[1].lower()], match.end()
    return None, position
