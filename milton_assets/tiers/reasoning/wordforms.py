"""One word in its other forms: plural, spelling, verb ending, a slip of the pen.

What belongs here: `stem`, `root` and `is_a_slip`, all only good for comparing words. What does not: phrases
(`phrasing`) and names (`proper_names`).
"""

from __future__ import annotations

import re
from functools import lru_cache

_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "feet": "foot", "teeth": "tooth", "mice": "mouse",
    "geese": "goose", "people": "person", "grey": "gray", "aluminum": "aluminium", "yr": "year", "yrs": "year",
    "beneath": "under", "underneath": "under", "below": "under",
    "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute", "lb": "pound", "lbs": "pound", "ft": "foot",
}  # fmt: skip
_SPELLINGS = (
    (re.compile(r"^(pal|h|an|p|f|c|aesth?|arch)ae"), r"\1e"),
    (re.compile(r"oe(?=s|t|n|d|m)"), "e"),
    (re.compile(r"our(?=$|s$|ed$|ing$|al$|ful$|less$|ite$|hood$|able$)"), "or"),
    (re.compile(r"(?<=[^aeiou])re(s?)$"), r"er\1"),
    (re.compile(r"is(?=e$|es$|ed$|ing$|ation$|ations$|er$)"), "iz"),
    (re.compile(r"ys(?=e$|ed$|ing$)"), "yz"),
    (re.compile(r"ogue(s?)$"), r"og\1"),
    (re.compile(r"ence(s?)$"), r"ense\1"),
    (re.compile(r"ll(?=ed$|ing$|er$|ers$)"), "l"),
    (re.compile(r"sulph"), "sulf"),
)
_DIGRAPH = re.compile(r"[ao]e")
_SHORTEST_ROOT = 3
_LONGEST_ENDING = 2
_LONG, _VERY_LONG, _LONG_AMONG_OTHERS = 7, 10, 5


@lru_cache(maxsize=16384)
def stem(word: str) -> str:
    """`word` in the singular and in one spelling; only good for comparing with another stem."""
    word = _IRREGULAR.get(word, word)
    for pattern, plain in _SPELLINGS:
        word = pattern.sub(plain, word)
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 4 and word.endswith("ves"):
        word = word[:-3] + "f"
    elif len(word) > 4 and word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        word = word[:-2]
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    word = word[:-2] + "f" if len(word) > 4 and word.endswith(("ve", "fe")) else word
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


def root(word: str) -> str:
    """`word` without the ending of a verb either ("marks", "marked", "marking"); only good for comparing."""
    plain = stem(word)
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_ROOT:
            plain = word[: -len(ending)]
            plain = plain[:-1] if plain[-1] == plain[-2] and plain[-1] not in "ls" else plain
    return plain[:-1] if len(plain) > _SHORTEST_ROOT and plain.endswith("e") else plain


def is_a_slip(one: str, other: str, *, alone: bool) -> bool:
    """Whether `other` is the long name `one` with a slip in it; stricter where no right words stand beside it."""
    if _DIGRAPH.sub("e", one) == _DIGRAPH.sub("e", other) and len(one) > _SHORTEST_ROOT:
        return True  # "Pangaea" and "Pangea", "Oedipus" and "Edipus" are two spellings.
    shorter, longer = sorted((one, other), key=len)
    if one[-1] != other[-1] and shorter[: len(longer) - _LONGEST_ENDING] == longer[:-_LONGEST_ENDING]:
        return False  # Another ending makes another word ("photographs", "photographer").
    if one[0] != other[0] or longer.startswith(shorter) or not (one.isalpha() and other.isalpha()):
        return False
    if len(shorter) < (_LONG if alone else _LONG_AMONG_OTHERS) or (alone and one[:2] != other[:2]):
        return False
    return edits(one, other, most=2 if len(shorter) >= _VERY_LONG and not alone else 1) is not None


def edits(one: str, other: str, most: int) -> int | None:
    """How many letters are more, less, other or exchanged with their neighbour; None beyond `most`."""
    if abs(len(one) - len(other)) > most:
        return None
    before: list[int] = []
    row = list(range(len(other) + 1))
    for n, letter in enumerate(one, start=1):
        older, before, row = before, row, [n]
        for k, letter_there in enumerate(other, start=1):
            cost = min(before[k] + 1, row[k - 1] + 1, before[k - 1] + (letter != letter_there))
            if n > 1 and k > 1 and letter == other[k - 2] and one[n - 2] == letter_there:
                cost = min(cost, older[k - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return None
    return row[-1] if row[-1] <= most else None
