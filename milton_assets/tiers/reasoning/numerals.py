"""Whole numbers in words: "six", "forty-two", "two million", "nineteen eighty-four", "fifth", "VIII".

What belongs here: recognising such numerals, their values, and spelling a number. What does not: signs, fractions and
units (`quantities`), cutting text into words (`text`).
"""

from __future__ import annotations

import re

UNITS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
}  # fmt: skip
TEENS = {
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
SCALES = {"thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
SMALL = {**UNITS, **TEENS, **TENS}
_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9,
    "tenth": 10, "eleventh": 11, "twelfth": 12,
    **{f"{word}th": value for word, value in TEENS.items() if value > 12},
    **{f"{word[:-1]}ieth": value for word, value in TENS.items()},
}  # fmt: skip


def _any(words: dict[str, int] | dict[str, float]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_UNIT_ORDINALS = {word: value for word, value in _ORDINALS.items() if value < 10}
_BELOW_100 = rf"(?:(?:{_any(TENS)})(?:[- ](?:{_any(UNITS)}))?|{_any(TEENS)}|{_any(UNITS)})"
_BELOW_1000 = rf"(?:(?:(?:a |{_BELOW_100} )?hundred(?: (?:and )?{_BELOW_100})?)|{_BELOW_100})"
_YEAR = rf"(?:(?:{_any(TEENS)}|twenty)[- ](?:(?:{_any(TENS)})(?:[- ](?:{_any(UNITS)}))?|{_any(TEENS)}))"
_CARDINAL = rf"(?:{_BELOW_1000}(?: (?:{_any(SCALES)})(?:,? (?:and )?{_BELOW_1000})?)*)"
_ORDINAL = rf"(?:(?:{_any(TENS)})[- ](?:{_any(_UNIT_ORDINALS)})|{_any(_ORDINALS)})"
SPELLED = rf"\b(?:{_ORDINAL}|{_YEAR}|{_CARDINAL})\b"
"""A pattern (without regard to case) for one whole number in words, cardinal or ordinal."""

_IS_YEAR = re.compile(_YEAR)
_ROMAN = re.compile(r"X{0,3}(?:IX|IV|V?I{0,3})")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10}


def spelled_value(written: str) -> float:
    """The value of a text that `SPELLED` matches."""
    words = re.split(r"[\s,-]+", written.lower())
    if _IS_YEAR.fullmatch(written.lower()):
        century, *rest = words
        return 100.0 * SMALL[century] + sum(SMALL[word] for word in rest)
    total = current = 0.0
    for word in words:
        if word in SCALES:
            total, current = total + (current or 1) * SCALES[word], 0.0
        elif word == "hundred":
            current = (current or 1) * 100
        else:
            current += SMALL.get(word, _ORDINALS.get(word, 0))
    return total + current


_MOST_SPELLED = 999_999


def spelled(value: int) -> str:
    """The cardinal in British words: 125 is "one hundred and twenty-five". Raises `ValueError` outside 0 to 999,999."""
    if not 0 <= value <= _MOST_SPELLED:
        raise ValueError(f"{value} is not spelled out, only 0 to {_MOST_SPELLED:,}")
    thousands, rest = divmod(value, 1000)
    if not thousands:
        return _below_1000(rest)
    head = f"{_below_1000(thousands)} thousand"
    if not rest:
        return head
    return f"{head} and {_below_1000(rest)}" if rest < 100 else f"{head} {_below_1000(rest)}"


def _below_1000(value: int) -> str:
    hundreds, rest = divmod(value, 100)
    if hundreds:
        return f"{_WORD_OF[hundreds]} hundred" + (f" and {_below_1000(rest)}" if rest else "")
    if value in _WORD_OF:
        return _WORD_OF[value]
    return f"{_WORD_OF[value - value % 10]}-{_WORD_OF[value % 10]}"


_WORD_OF = {value: word for word, value in SMALL.items()}


def roman_value(written: str) -> int | None:
    """The value of a Roman numeral of two to seven capitals I, V, X; None for anything else.

    A single letter is a name or a pronoun more often than a number.
    """
    if not 2 <= len(written) <= 7 or not _ROMAN.fullmatch(written):
        return None
    values = [_ROMAN_VALUES[letter] for letter in written]
    following = [*values[1:], 0]
    return sum(-value if value < after else value for value, after in zip(values, following, strict=True))
