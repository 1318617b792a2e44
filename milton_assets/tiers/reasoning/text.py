"""Text made comparable: canonical characters, then words that know their clause.

What belongs here: normalising what a model wrote and cutting it into words, and finding a phrase among them. What
does not: deciding whether an answer is right (`matching`), numbers with units (`quantities`) and dates (`dates`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from milton_assets.tiers.reasoning.markup import without_artefacts, without_latex
from milton_assets.tiers.reasoning.numerals import SCALES, SPELLED, roman_value, spelled_value

_LETTERS_WITHOUT_DECOMPOSITION = str.maketrans(
    {"ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "þ": "th", "æ": "ae", "Æ": "Ae", "œ": "oe"}
)
_PUNCTUATION = str.maketrans(
    {"’": "'", "‘": "'", "ʼ": "'", "“": '"', "”": '"', "−": "-", "‐": "-", "‑": "-", "–": " - ", "—": " - ", "⁄": "/"}
)
_SIGN = re.compile(r"(?<![\w)\]])[–—](?=\d)")
_SUPERSCRIPT = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_VULGAR_FRACTION = re.compile(r"(\d?)([¼½¾⅓⅔⅛⅜⅝⅞])")
_DOTTED_ABBREVIATION = re.compile(r"\b(?:[A-Za-z]\.){2,}")
_SPACES = re.compile(r"[^\S\n]{2,}")
_SPACED_INITIALS = re.compile(r"\b[A-Z]\.(?: [A-Z]\.)+|\b[A-Z]\.(?=[A-Z] [A-Z][a-z])")
_AND = re.compile(r" ?&+ ?")
_CLOCK = re.compile(r"\b(\d{1,2})(?::00)? ?([ap])\.? ?m\b\.?", re.IGNORECASE)
_MONEY = re.compile(r"(?<=[£$€])(\d[\d.,]*) ?(m|bn)\b", re.IGNORECASE)
_SEASON = re.compile(r"(?<![\d-])(1\d|20)(\d\d)( ?[-/] ?)(\d\d)(?![\d-])")
_ERA = re.compile(r"\b(B)\.? ?C\.? ?E\b\.?")
_INITIAL = re.compile(
    r"\b([A-Z][a-z]+ [A-Z]|[A-Z](?=\. [A-Z]\.))\.(?= [A-Z])(?! (?:It|The|He|She|This|That|They|In|A|An|There)\b)"
)
_TITLE = re.compile(r"\b(St|Dr|Mr|Mrs|Ms|Prof|Jr|Sr|Vol|No|Mt|Ft|Gen|Lt|Col|Capt|Sen|Gov|Rev|Inc|Ltd)\.")
_IRREGULAR_NEGATION = re.compile(r"\b(?:(ca)n't|(wo)n't|(can)not)\b", re.IGNORECASE)
_NEGATION = re.compile(r"(?:n't)+\b", re.IGNORECASE)
_POSSESSIVE = re.compile(r"(?<=\w)'+s\b|(?<=s)'+(?!\w)", re.IGNORECASE)

NUMBER = (
    r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])"
    r"|(?<![\d.,])\d{1,3}(?: \d{3})+(?!\d)"
    r"|\d+\.\d+"
    r"|(?<![\d,])\d+,\d{1,2}(?![\d,])"
    r"|\d+"
)
"""A number in digits: thousands by comma or space, decimals by point, or by a comma before one or two digits."""

_SCALED = rf"(?P<scaled>{NUMBER}) (?P<scale>{'|'.join(SCALES)})\b"
_SYMBOL = r"(?<![^\W_])(?-i:[A-Za-z]{1,2}(?:\+\+|#)(?![\w+#])|[A-Z]{1,2}[+-](?![\w+#-]))"
_TOKEN = re.compile(
    rf"(?P<spelled>{SPELLED})|{_SCALED}|(?P<number>{NUMBER})(?:(?:st|nd|rd|th)\b)?"
    rf"|(?P<word>{_SYMBOL}|[^\W\d_]+(?:'[^\W\d_]+)*)|(?P<sentence>[.!?\n]+)|(?P<clause>[,;:()\"|•]| - )",
    re.IGNORECASE,
)
"""A symbol keeps its sign: `C++`, `C#` and `C` are three languages, `O+` and `O-` two blood groups."""
_NOUN_AT = re.compile(r" (?!(?:is|was|and|or)\b)[^\W_]")

Span = tuple[int, int]
"""`(start, end)` as positions in a text's words."""


@dataclass(frozen=True)
class Word:
    """One word or number: its comparable text, where it stood, and the clause and sentence it belongs to.

    `named` says that it was written with a capital or in digits, `asked` that its sentence ends with a question mark.
    """

    text: str
    clause: int
    sentence: int
    start: int
    end: int
    named: bool = False
    asked: bool = False


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """`text` with one spelling per character: NFKC, no accents, no LaTeX, plain quotes, expanded `n't`, no possessives.

    Case, line breaks and punctuation stay. Applying it twice changes nothing more.
    """
    text = _SIGN.sub("-", text)
    text = _SUPERSCRIPT.sub(lambda m: "^" + unicodedata.normalize("NFKC", m.group()), text)
    text = _VULGAR_FRACTION.sub(lambda m: f"{m.group(1)} {m.group(2)}" if m.group(1) else m.group(2), text)
    text = unicodedata.normalize("NFKC", text).translate(_PUNCTUATION)
    decomposed = unicodedata.normalize("NFD", text)
    text = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
    text = unicodedata.normalize("NFC", text).translate(_LETTERS_WITHOUT_DECOMPOSITION)
    text = without_artefacts(_SPACES.sub(" ", without_latex(_SPACES.sub(" ", text))))
    text = _ERA.sub(r"\1C", _CLOCK.sub(r"\1 \2m", _AND.sub(" and ", text)))
    text = _SEASON.sub(_both_years, text)
    text = _MONEY.sub(lambda m: f"{m.group(1)} {'million' if m.group(2) in 'mM' else 'billion'}", text)
    text = _SPACED_INITIALS.sub(lambda m: m.group().replace(".", "").replace(" ", ""), text)
    text = _INITIAL.sub(r"\1", _TITLE.sub(r"\1", text))
    text = _DOTTED_ABBREVIATION.sub(lambda m: m.group().replace(".", ""), text)
    text = _IRREGULAR_NEGATION.sub(lambda m: "will not" if m.group(2) else "can not", text)
    return _SPACES.sub(" ", _POSSESSIVE.sub("", _NEGATION.sub(" not", text)))


def _both_years(season: re.Match[str]) -> str:
    """ "1979-80" with its second year written out; other numbers of that form are left alone."""
    century, first, joint, second = season.groups()
    follows = int(second) == (int(first) + 1) % 100 and second != "00"
    return f"{century}{first}{joint}{century}{second}" if follows else season.group()


def digits_as_number(digits: str) -> float:
    """The value of a string that `NUMBER` matched."""
    plain = digits.replace(" ", "")
    if re.fullmatch(r"\d+,\d{1,2}", plain):
        return float(plain.replace(",", "."))
    return float(plain.replace(",", ""))


@lru_cache(maxsize=4096)
def words(text: str) -> tuple[Word, ...]:
    """The words of `text` in order, case-folded, without articles; offsets refer to `canonical(text)`.

    A text that is nothing but an article ("A", the answer to a multiple choice) keeps it.
    """
    plain = canonical(text)
    return tuple(_words(plain)) or tuple(_words(plain, keep_articles=True))


def _words(text: str, *, keep_articles: bool = False) -> Iterator[Word]:
    clause = sentence = 0
    opens = True
    sentence_so_far: list[Word] = []
    for match in _TOKEN.finditer(text):
        if match.lastgroup == "sentence":
            yield from _ended(sentence_so_far, asked="?" in match.group())
            sentence_so_far = []
            sentence, clause, opens = sentence + 1, clause + 1, True
        elif match.lastgroup == "clause":
            clause += 1
        else:
            raw = match.group()
            if keep_articles or not _is_article(raw, text, match.end(), opens=opens):
                named = raw[0].isupper() or raw[0].isdigit()
                sentence_so_far.append(Word(_comparable(match), clause, sentence, *match.span(), named))
            opens = False
    yield from sentence_so_far


def _ended(sentence: list[Word], *, asked: bool) -> list[Word]:
    return [replace(word, asked=True) for word in sentence] if asked else sentence


def _is_article(raw: str, text: str, end: int, *, opens: bool) -> bool:
    # A capital A inside a sentence is a name ("vitamin A"), and so is one that opens it as its subject ("A is right").
    return raw.lower() in {"the", "an"} or raw == "a" or (raw == "A" and opens and bool(_NOUN_AT.match(text, end)))


def _comparable(match: re.Match[str]) -> str:
    """Numbers in words, in Roman numerals, as ordinals and in digits are one ("six" and "6", "fifth" and "5")."""
    if match["spelled"]:
        return f"{spelled_value(match['spelled']):.15g}"
    if match["scaled"]:
        return f"{digits_as_number(match['scaled']) * SCALES[match['scale'].lower()]:.15g}"
    if match["number"]:
        return f"{digits_as_number(match['number']):.15g}"
    roman = roman_value(match.group())
    return match.group().casefold() if roman is None else str(roman)


@lru_cache(maxsize=16384)
def phrase(text: str) -> tuple[str, ...]:
    """The comparable words of a short text such as an alias."""
    return tuple(word.text for word in words(text))


def occurrences(needle: Sequence[str], haystack: Sequence[Word]) -> Iterator[Span]:
    """Every `(start, end)` at which the words of `needle` stand in `haystack`, whole words only."""
    size = len(needle)
    if not size:
        return
    for start in range(len(haystack) - size + 1):
        if all(haystack[start + k].text == needle[k] for k in range(size)):
            yield start, start + size
