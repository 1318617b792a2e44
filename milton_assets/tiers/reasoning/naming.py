"""Where an answer names the gold, in the words that people accept for it.

What belongs here: finding the mentions of an alias: as it is written, in the plural or another spelling, in another
order of words, as a shorter or longer form of a person's name, as a date or number written otherwise. What does not:
whether a mention is asserted (`polarity`), what stands beside it (`candidates`).

Every rule needs something that tells it from a coincidence: plurals and spellings need a word in lower case (names
have neither), another order needs a linking word or a number in the alias, short names need a question about a person.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

from milton_assets.tiers.reasoning.dates import WrittenDate, dates
from milton_assets.tiers.reasoning.lexicon import FUNCTION_WORDS, LINKS, NEGATORS, PARTICLES, TITLES
from milton_assets.tiers.reasoning.quantities import Quantity, quantities
from milton_assets.tiers.reasoning.text import Word, canonical, occurrences, phrase, words

Span = tuple[int, int]
"""`(start, end)` as positions in an answer's words."""

_PERSON = re.compile(
    r"\b(?:who|whom|whose|(?:which|name of the) (?:\w+ )?(?:actor|actress|singer|author|writer|poet|painter|composer|"
    r"president|king|queen|player|artist|person|man|woman|director|character|inventor|scientist|explorer|politician))\b",
    re.IGNORECASE,
)
_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "feet": "foot", "teeth": "tooth", "mice": "mouse",
    "geese": "goose", "people": "person", "grey": "gray", "aluminum": "aluminium",
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
_FEWEST_WORDS_OF_A_PHRASE = 3
_MOST_WORDS_OF_A_PHRASE = 12
_MOST_MIDDLE_NAMES = 3
_SHORT_NAME = 3


def mentions(aliases: Sequence[str], said: Sequence[Word], text: str, question: str) -> list[Span]:
    """Every place in `said`, the words of `text`, that names one of `aliases`; the longest where they overlap."""
    found: list[Span] = []
    for alias in aliases:
        found += _spans_of(alias, said, text, question)
    kept: list[Span] = []
    taken: set[int] = set()
    for start, end in sorted(set(found), key=lambda span: (span[0] - span[1], span)):
        if taken.isdisjoint(range(start, end)):
            kept.append((start, end))
            taken.update(range(start, end))
    return sorted(kept)


def _spans_of(alias: str, said: Sequence[Word], text: str, question: str) -> Iterator[Span]:
    spelled = words(alias)
    needle = [word.text for word in spelled]
    exact = list(occurrences(needle, said))
    if (quantity := _as_quantity(alias)) is not None:
        yield from _quantity_spans(quantity, exact, said, text, question)
        return
    yield from exact
    if (date := _as_date(alias)) is not None:
        yield from _date_spans(date, said, text, question)
        return
    if len(needle) > _MOST_WORDS_OF_A_PHRASE:
        return
    yield from _inflected(spelled, said)
    yield from _reordered(spelled, said)
    if _PERSON.search(question) and _is_a_name(spelled):
        yield from _other_forms_of_a_name(spelled, said)


# Plural, spelling, order


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


def _inflected(spelled: Sequence[Word], said: Sequence[Word]) -> Iterator[Span]:
    size = len(spelled)
    stems = [stem(word.text) for word in spelled]
    for start in range(len(said) - size + 1):
        window = said[start : start + size]
        if all(
            one.text == other.text or (_is_common(one, other) and of_one == stem(other.text))
            for one, other, of_one in zip(spelled, window, stems, strict=True)
        ):
            yield start, start + size


def _is_common(one: Word, other: Word) -> bool:
    """Whether either is written as a common noun: names have no plural that is the same name."""
    return min(len(one.text), len(other.text)) > 3 and not (one.named and other.named)


def _reordered(spelled: Sequence[Word], said: Sequence[Word]) -> Iterator[Span]:
    """ "Best Picture Academy Award" for "Academy Award for Best Picture", "season four" for "fourth season"; and a
    phrase of several words in the order of the gold, with others between ("They reflect the green light").
    """
    content = [stem(word.text) for word in spelled if word.text not in FUNCTION_WORDS]
    if len(content) < 2:
        return
    linked = any(word.text in LINKS for word in spelled) or any(word.text.isdigit() for word in spelled)
    if linked:
        yield from _windows(Counter(content), said, len(spelled) + 1)
    if len(content) >= _FEWEST_WORDS_OF_A_PHRASE and not all(word.named for word in spelled):
        yield from _subsequence(content, said, {word.text for word in spelled} & NEGATORS)


def _windows(wanted: Counter[str], said: Sequence[Word], widest: int) -> Iterator[Span]:
    size = wanted.total()
    stems = [stem(word.text) for word in said]
    for start in range(len(said) - size + 1):
        if stems[start] not in wanted:
            continue
        held: Counter[str] = Counter()
        for end in range(start, min(start + widest, len(said))):
            if said[end].clause != said[start].clause:
                break
            if stems[end] in wanted:
                held[stems[end]] += 1
            elif said[end].text not in LINKS:
                break
            if held == wanted:
                yield start, end + 1
                break


def _subsequence(content: Sequence[str], said: Sequence[Word], negators: set[str]) -> Iterator[Span]:
    stems = [stem(word.text) for word in said]
    widest = 2 * len(content) + 4
    for start in (n for n, one in enumerate(stems) if one == content[0]):
        following = iter(range(start, min(start + widest, len(said))))
        ends = [next((n for n in following if stems[n] == one), None) for one in content]
        last = ends[-1]
        if last is None or None in ends or said[last].sentence != said[start].sentence:
            continue
        if {word.text for word in said[start : last + 1]} & NEGATORS == negators:
            yield start, last + 1
            return


# Names of people


def _is_a_name(spelled: Sequence[Word]) -> bool:
    return 2 <= len(spelled) <= 6 and all(
        (word.named and not word.text[0].isdigit()) or word.text in PARTICLES for word in spelled
    )


def _other_forms_of_a_name(spelled: Sequence[Word], said: Sequence[Word]) -> Iterator[Span]:
    first, last = spelled[0].text, spelled[-1].text
    holds_particle = any(word.text in PARTICLES for word in spelled)
    for end in (n for n, word in enumerate(said) if word.text == last and word.named):
        middle = 0
        start = end - 1
        while start >= 0 and middle <= _MOST_MIDDLE_NAMES and _may_be_of_the_name(said, start, end):
            if _same_first_name(said[start].text, first):
                yield start, end + 1
                break
            start, middle = start - 1, middle + 1
        else:
            if not _other_name_before(said, end) and not _name_after(said, end):
                yield end, end + 1
    if holds_particle:
        for n, word in enumerate(said):
            if word.text == first and word.named and not _other_name_before(said, n) and not _name_after(said, n):
                yield n, n + 1


def _may_be_of_the_name(said: Sequence[Word], position: int, end: int) -> bool:
    word = said[position]
    return (word.named or word.text in PARTICLES) and word.sentence == said[end].sentence and word.text not in LINKS


def _same_first_name(written: str, first: str) -> bool:
    shorter, longer = sorted((written, first), key=len)
    return written == first or (len(shorter) >= _SHORT_NAME and longer.startswith(shorter))


def _other_name_before(said: Sequence[Word], position: int) -> bool:
    if position == 0 or said[position - 1].clause != said[position].clause:
        return False
    before = said[position - 1]
    return before.text in PARTICLES or (before.named and before.text not in TITLES | FUNCTION_WORDS)


def _name_after(said: Sequence[Word], position: int) -> bool:
    if position + 1 == len(said) or said[position + 1].clause != said[position].clause:
        return False
    return said[position + 1].named and not said[position + 1].text[0].isdigit()


# Dates and numbers


def _as_date(alias: str) -> WrittenDate | None:
    found = dates(alias)
    if len(found) != 1 or found[0].month is None:
        return None
    rest = canonical(alias)[: found[0].start] + canonical(alias)[found[0].end :]
    return found[0] if not set(phrase(rest)) - {"on", "in", "of"} else None


def _date_spans(wanted: WrittenDate, said: Sequence[Word], text: str, question: str) -> Iterator[Span]:
    """Dates that say the same as far as they go, down to the month; to the year where a year is asked for."""
    asks_for_a_year = "year" in phrase(question)
    for date in dates(text):
        pairs = ((wanted.year, date.year), (wanted.month, date.month), (wanted.day, date.day))
        agree = all(want == have for want, have in pairs if want is not None and have is not None)
        told = date.year is not None or (wanted.year is None and date.day is not None)
        if agree and told and (date.month is not None or asks_for_a_year):
            yield _span_at(said, date.start, date.end)


def _as_quantity(alias: str) -> Quantity | None:
    found = quantities(alias)
    whole = canonical(alias).strip()
    start = whole.find(whole.strip())
    return found[0] if len(found) == 1 and (found[0].start, found[0].end) == (start, len(whole)) else None


def _quantity_spans(
    wanted: Quantity, exact: Sequence[Span], said: Sequence[Word], text: str, question: str
) -> Iterator[Span]:
    """Numbers of the same value and sign, and of no other unit; an ordinal where nothing else is read at its place. A
    year that is part of a date is named by the whole of it."""
    for date in dates(text):
        if wanted.unit is None and date.month is not None and wanted.value == date.year:
            yield _span_at(said, date.start, date.end)
    read = {_span_at(said, q.start, q.end)[0]: q for q in quantities(text)}
    for start, end in exact:
        quantity = read.get(start)
        if quantity is None:
            if wanted.unit is None and wanted.value >= 0:
                yield start, end
        elif _is_same(wanted, quantity, said, end, question):
            yield start, end
    for start, quantity in read.items():
        _, end = _span_at(said, quantity.start, quantity.end)
        if _is_same(wanted, quantity, said, end, question):
            yield start, end


def _is_same(wanted: Quantity, have: Quantity, said: Sequence[Word], end: int, question: str) -> bool:
    if wanted.value != have.value:
        return False
    if have.unit is not None or wanted.unit is None:
        return wanted.unit is None or wanted.unit == have.unit
    follower = said[end].text if end < len(said) and said[end].clause == said[end - 1].clause else None
    return follower is None or follower in FUNCTION_WORDS or follower in phrase(question)


def _span_at(said: Sequence[Word], start: int, end: int) -> Span:
    first = bisect_right(said, start, key=lambda word: word.end)
    return first, max(first + 1, bisect_left(said, end, key=lambda word: word.start))
