"""Text made comparable: canonical characters, then words that know their clause.

What belongs here: normalising what a model wrote and cutting it into words, and finding a phrase among them. What
does not: deciding whether an answer is right (`matching`), numbers with units (`quantities`) and dates (`dates`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

_LETTERS_WITHOUT_DECOMPOSITION = str.maketrans(
    {"ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "þ": "th", "æ": "ae", "Æ": "Ae", "œ": "oe"}
)
_PUNCTUATION = str.maketrans(
    {"’": "'", "‘": "'", "ʼ": "'", "“": '"', "”": '"', "−": "-", "‐": "-", "‑": "-", "–": " - ", "—": " - ", "⁄": "/"}
)
_SUPERSCRIPT = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_VULGAR_FRACTION = re.compile(r"(\d?)([¼½¾⅓⅔⅛⅜⅝⅞])")
_DOTTED_ABBREVIATION = re.compile(r"\b(?:[A-Za-z]\.){2,}")
_IRREGULAR_NEGATION = re.compile(r"\b(?:(ca)n't|(wo)n't|(can)not)\b", re.IGNORECASE)
_NEGATION = re.compile(r"n't\b", re.IGNORECASE)
_POSSESSIVE = re.compile(r"(?<=\w)'s\b|(?<=s)'(?!\w)", re.IGNORECASE)

NUMBER = (
    r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])"
    r"|(?<![\d.,])\d{1,3}(?: \d{3})+(?!\d)"
    r"|\d+\.\d+"
    r"|(?<![\d,])\d+,\d{1,2}(?![\d,])"
    r"|\d+"
)
"""A number in digits: thousands by comma or space, decimals by point, or by a comma before one or two digits."""

_TOKEN = re.compile(
    rf"(?P<number>{NUMBER})|(?P<word>[^\W\d_]+(?:'[^\W\d_]+)*)|(?P<sentence>[.!?\n]+)|(?P<clause>[,;:()\"|•]| - )"
)


@dataclass(frozen=True)
class Word:
    """One word or number: its comparable text, where it stood, and the clause and sentence it belongs to."""

    text: str
    clause: int
    sentence: int
    start: int
    end: int


def canonical(text: str) -> str:
    """`text` with one spelling per character: NFKC, no accents, plain quotes, expanded `n't`, no possessives.

    Case, line breaks and punctuation stay. Applying it twice changes nothing more.
    """
    text = _SUPERSCRIPT.sub(lambda m: "^" + unicodedata.normalize("NFKC", m.group()), text)
    text = _VULGAR_FRACTION.sub(lambda m: f"{m.group(1)} {m.group(2)}" if m.group(1) else m.group(2), text)
    text = unicodedata.normalize("NFKC", text).translate(_PUNCTUATION)
    decomposed = unicodedata.normalize("NFD", text)
    text = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
    text = unicodedata.normalize("NFC", text).translate(_LETTERS_WITHOUT_DECOMPOSITION)
    text = _DOTTED_ABBREVIATION.sub(lambda m: m.group().replace(".", ""), text)
    text = _IRREGULAR_NEGATION.sub(lambda m: "will not" if m.group(2) else "can not", text)
    return _POSSESSIVE.sub("", _NEGATION.sub(" not", text))


def digits_as_number(digits: str) -> float:
    """The value of a string that `NUMBER` matched."""
    plain = digits.replace(" ", "")
    if re.fullmatch(r"\d+,\d{1,2}", plain):
        return float(plain.replace(",", "."))
    return float(plain.replace(",", ""))


@lru_cache(maxsize=2048)
def words(text: str) -> tuple[Word, ...]:
    """The words of `text` in order, case-folded, without articles; offsets refer to `canonical(text)`."""
    return tuple(_words(canonical(text)))


def _words(text: str) -> Iterator[Word]:
    clause = sentence = 0
    opens = True
    for match in _TOKEN.finditer(text):
        if match.lastgroup == "sentence":
            sentence, clause, opens = sentence + 1, clause + 1, True
        elif match.lastgroup == "clause":
            clause += 1
        else:
            raw = match.group()
            if not _is_article(raw, opens=opens):
                yield Word(_comparable(raw), clause, sentence, match.start(), match.end())
            opens = False


def _is_article(raw: str, *, opens: bool) -> bool:
    # A capital A inside a sentence is a name ("vitamin A"), not an article.
    return raw.lower() in {"the", "an"} or raw == "a" or (raw == "A" and opens)


def _comparable(raw: str) -> str:
    return f"{digits_as_number(raw):.15g}" if raw[0].isdigit() else raw.casefold()


@lru_cache(maxsize=16384)
def phrase(text: str) -> tuple[str, ...]:
    """The comparable words of a short text such as an alias."""
    return tuple(word.text for word in words(text))


def occurrences(needle: Sequence[str], haystack: Sequence[Word]) -> Iterator[tuple[int, int]]:
    """Every `(start, end)` at which the words of `needle` stand in `haystack`, whole words only."""
    size = len(needle)
    if not size:
        return
    for start in range(len(haystack) - size + 1):
        if all(haystack[start + k].text == needle[k] for k in range(size)):
            yield start, start + size
