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
    r"president|king|queen|player|artist|person|man|woman|director|character|inventor|scientist|explorer|politician|"
    r"mathematician|physicist|chemist|philosopher|gymnast|swimmer|footballer|boxer|golfer|astronaut|comedian))\b",
    re.IGNORECASE,
)
_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "feet": "foot", "teeth": "tooth", "mice": "mouse",
    "geese": "goose", "people": "person", "grey": "gray", "aluminum": "aluminium", "yr": "year", "yrs": "year",
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
_FEWEST_WORDS_OF_A_PHRASE = 3
_MOST_WORDS_OF_A_PHRASE = 12
_MOST_MIDDLE_NAMES = 3
_SHORT_NAME = 3


def asks_for_a_person(question: str) -> bool:
    """Whether somebody is asked for, whose name may be told in a shorter or longer form."""
    return bool(_PERSON.search(question))


def mentions(aliases: Sequence[str], said: Sequence[Word], text: str, question: str) -> list[Span]:
    """Every place in `said`, the words of `text`, that names one of `aliases`; the longest where they overlap."""
    full = tuple(date for alias in aliases if (date := _as_date(alias)) is not None and date.day is not None)
    written = tuple(dict.fromkeys(form for alias in aliases for form in forms(alias)))
    found = [span for form in written for span in _as_written(form, said, text, question)]
    found = [span for span in found if not _is_of_another_day(span, full, said, text)]
    if not found:
        found = [span for form in written for span in _put_otherwise(form, said, text, question)]
    kept: list[Span] = []
    taken: set[int] = set()
    for start, end in sorted(set(found), key=lambda span: (span[0] - span[1], span)):
        if taken.isdisjoint(range(start, end)):
            kept.append((start, end))
            taken.update(range(start, end))
    return sorted(kept)


def _as_written(alias: str, said: Sequence[Word], text: str, question: str) -> Iterator[Span]:
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
    yield from _written_together(needle, said)
    yield from _abbreviated(spelled, said, text)
    if _is_a_name(spelled):
        yield from _other_forms_of_a_name(spelled, said, of_a_person=asks_for_a_person(question))


def _put_otherwise(alias: str, said: Sequence[Word], text: str, question: str) -> Iterator[Span]:
    """Looser ways to say it, looked for where no alias is found as it is written."""
    spelled = words(alias)
    if len(spelled) > _MOST_WORDS_OF_A_PHRASE or _as_quantity(alias) is not None or _as_date(alias) is not None:
        return
    yield from _listed(alias, said)
    yield from _in_part(spelled, said)
    yield from _elided(spelled, said, question)
    if _ASKS_FOR_A_PEOPLE.search(question):
        yield from _of_that_people(spelled, said)
    yield from _run_together([word.text for word in spelled], said)
    yield from _misspelt(spelled, said)
    content = [word for word in spelled if word.text not in FUNCTION_WORDS]
    if len(content) == _WORDS_OF_A_COMPOUND:
        yield from _turned_round([stem(word.text) for word in content], said)
    turns = {word.text for word in spelled} & _TURNING
    if not all(word.named for word in content) and turns <= {word.text for word in said}:
        yield from _gathered(content, said, {word.text for word in spelled} & NEGATORS)


# What an alias says besides the name

_ASIDE = re.compile(r"\s*\([^()]*\)")
_ACRONYM = re.compile(r"\(([A-Z][A-Z0-9]{1,5})\)")
_DESCRIBED = re.compile(r"(?:[\w'-]+ )*?([a-z]{3,}) ([A-Z][\w'.-]+(?: [A-Z][\w'.-]*)+)")
_RELATIVE = re.compile(r",? (?:who|which|whose) ")
_LED_IN = re.compile(
    r"(?:in|on|at|by|from|during|around|circa|about|approximately|his|her|their|its|have|has)\b[ -]+(?:the )?"
    r"|(?:the )?(?:late|early|mid)\b[ -](?=.*\bcentury\b)",
    re.IGNORECASE,
)
_ALTERNATIVE = re.compile(r" or |\(accept |; ")
_DIGIT = re.compile(r"\d")
_STATES = {"us": "united states", "usa": "united states", "uk": "united kingdom", "united states": "US"}
_DEGREES = frozenset({"jr", "sr", "mbe", "obe", "cbe", "phd"})


@lru_cache(maxsize=16384)
def forms(alias: str) -> tuple[str, ...]:
    """`alias`, and what is left of it without what only explains it: an aside in parentheses, a relative clause, a
    preposition or possessive before it, a title, a degree; either half of "X or Y".
    """
    plain = canonical(alias).strip()
    found = [alias]
    without = _ASIDE.sub("", plain).strip()
    found += [without, _RELATIVE.split(without)[0]]
    found += (
        [half.strip(" ()") for half in _ALTERNATIVE.split(plain)]
        if _ALTERNATIVE.search(plain) and not _DIGIT.search(plain)
        else []
    )
    found += _ACRONYM.findall(plain)
    if (described := _DESCRIBED.fullmatch(without)) and described.group(1) not in FUNCTION_WORDS:
        found.append(described.group(2))
    led_in = _LED_IN.match(plain)
    if led_in:
        found.append(plain[led_in.end() :])
    found += [other for one in (plain,) if (other := _STATES.get(one.casefold())) is not None]
    spelled = plain.split()
    while len(spelled) > 2 and phrase(spelled[0])[:1] and phrase(spelled[0])[0] in TITLES:
        spelled = spelled[1:]
    while len(spelled) > 2 and phrase(spelled[-1])[:1] and phrase(spelled[-1])[0] in _DEGREES:
        spelled = spelled[:-1]
    found.append(" ".join(spelled).strip(" ,"))
    return tuple(dict.fromkeys(form for form in found if form == alias or _says_something(form)))


def _says_something(form: str) -> bool:
    return any(word not in FUNCTION_WORDS and (len(word) > 1 or word.isdigit()) for word in phrase(form))


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
    named = all(word.named or word.text in FUNCTION_WORDS for word in spelled)
    if len(content) >= _FEWEST_WORDS_OF_A_PHRASE and not named:
        yield from _subsequence(content, said, {word.text for word in spelled} & NEGATORS)


_FEWEST_LETTERS_TOGETHER = 5


def _written_together(needle: Sequence[str], said: Sequence[Word]) -> Iterator[Span]:
    """ "non-partisan" for "nonpartisan", "baby buggy" for "babybuggy": the same letters with other gaps."""
    target = "".join(needle)
    if len(target) < _FEWEST_LETTERS_TOGETHER or not target.isalpha():
        return
    for start, first in enumerate(said):
        if not target.startswith(first.text):
            continue
        together = ""
        for end in range(start, len(said)):
            if said[end].sentence != first.sentence or len(said[end].text) < 2:
                break  # A letter by itself is no part of a compound ("Pari s").
            together += said[end].text
            if together == target:
                yield start, end + 1
            if len(together) >= len(target) or not target.startswith(together):
                break


def _elided(spelled: Sequence[Word], said: Sequence[Word], question: str) -> Iterator[Span]:
    """ "Missouri" for "Missouri River" where a river is asked for: what the question says need not be said again."""
    asked = {stem(word) for word in phrase(question) if word not in FUNCTION_WORDS}
    rest = list(spelled)
    while rest and (stem(rest[-1].text) in asked or rest[-1].text in LINKS):
        rest.pop()
    while len(rest) > 1 and rest[-1].named and (stem(rest[0].text) in asked or rest[0].text in LINKS):
        rest.pop(0)
    if not rest or len(rest) == len(spelled) or sum(len(word.text) for word in rest) < _FEWEST_LETTERS_TOGETHER:
        return
    if all(word.text.isdigit() or word.text in FUNCTION_WORDS | TITLES for word in rest):
        return
    for start, end in occurrences([word.text for word in rest], said):
        if not rest[0].named or said[start].named:
            yield start, end


_SEPARATOR = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+")


def _listed(alias: str, said: Sequence[Word]) -> Iterator[Span]:
    """A gold of several items ("Brazil, Colombia and Ecuador", "Ann Arbor, Michigan"): all of them, in any order."""
    items = [phrase(item) for item in _SEPARATOR.split(canonical(alias))]
    if len(items) < 2 or not all(items):
        return
    places = [next(occurrences(item, said), None) for item in items]
    if None not in places:
        yield from (place for place in places if place is not None)


_MOST_WORDS_OF_A_PART = 5


def _in_part(spelled: Sequence[Word], said: Sequence[Word]) -> Iterator[Span]:
    """An answer that is nothing but a part of the gold, of two words that carry a name or more, and all its numbers."""
    own = [word.text for word in said if word.text not in FUNCTION_WORDS]
    content = [word.text for word in spelled if word.text not in FUNCTION_WORDS]
    if len(said) > _MOST_WORDS_OF_A_PART or len(own) < 2 or 2 * len(own) < len(content):
        return
    numbers = {word for word in content if word.isdigit()}
    if numbers <= set(own) and any(content[n : n + len(own)] == own for n in range(len(content))):
        yield 0, len(said)


_ASKS_FOR_A_PEOPLE = re.compile(
    r"\b(?:who|nationality|nation|country|countries|team|mountains?|range|origin|language|continent)\b", re.IGNORECASE
)
_OF_A_PEOPLE = frozenset({"n", "an", "ian", "ine", "ish", "ese", "i", "ic", "s", "ean", "e"})


def _of_that_people(spelled: Sequence[Word], said: Sequence[Word]) -> Iterator[Span]:
    """ "Colombian" for "Colombia", "the Americans" for "American", where a people, country or range is asked for."""
    if len(spelled) != 1 or not spelled[0].named or len(spelled[0].text) < _FEWEST_LETTERS_TOGETHER:
        return
    name = spelled[0].text
    for n, word in enumerate(said):
        if not word.named or word.text == name or word.text[0] != name[0]:
            continue
        shorter, longer = sorted((word.text, name), key=len)
        common = next((k for k, (a, b) in enumerate(zip(shorter, longer, strict=False)) if a != b), len(shorter))
        if common >= max(len(shorter) - 1, _FEWEST_LETTERS_TOGETHER - 1) and longer[common:] in _OF_A_PEOPLE:
            yield n, n + 1


_STUCK_ON = frozenset({"and", "in", "of", "at", "from", "which", "is", "was", "to", "for", "by", "with", "on", "as"})


def _run_together(needle: Sequence[str], said: Sequence[Word]) -> Iterator[Span]:
    """ "Anna Bergin Oslo": a name that lost the space after it, of two words or more."""
    size = len(needle)
    for start in range(len(said) - size + 1) if size > 1 else ():
        last = said[start + size - 1].text
        stuck = last.startswith(needle[-1]) and last[len(needle[-1]) :] in _STUCK_ON
        if stuck and all(said[start + k].text == needle[k] for k in range(size - 1)):
            yield start, start + size


_FEWEST_INITIALS, _MOST_INITIALS = 3, 6


def _abbreviated(spelled: Sequence[Word], said: Sequence[Word], text: str) -> Iterator[Span]:
    """ "IWC" for "International Whaling Commission", and the other way round."""
    content = [word for word in spelled if word.text not in FUNCTION_WORDS]
    initials = "".join(word.text[0] for word in content)
    if _FEWEST_INITIALS <= len(content) <= _MOST_INITIALS and all(word.named for word in content):
        for n, word in enumerate(said):
            if word.text == initials and text[word.start : word.end].isupper():
                yield n, n + 1
    only = spelled[0].text
    if len(spelled) == 1 and spelled[0].named and only.isalpha() and _FEWEST_INITIALS <= len(only) <= _MOST_INITIALS:
        yield from _spelled_out(only, said)


def _spelled_out(initials: str, said: Sequence[Word]) -> Iterator[Span]:
    for start, word in enumerate(said):
        if not word.named or word.text[0] != initials[0]:
            continue
        at, end = 0, start
        while end < len(said) and at < len(initials) and said[end].clause == word.clause:
            if said[end].named and said[end].text[0] == initials[at] and len(said[end].text) > 1:
                at += 1
            elif said[end].text not in LINKS - {"and"}:
                break  # "The United States and Africa" are two.
            end += 1
        if at == len(initials):
            yield start, end


_LONGEST_ENDING, _LONG_OF_MANY = 2, 6
_LONG, _VERY_LONG, _LONG_AMONG_OTHERS = 7, 10, 5


def _misspelt(spelled: Sequence[Word], said: Sequence[Word]) -> Iterator[Span]:
    """A long name with a letter more, less, other or in another place; one word of it, all others being right."""
    if not any(word.named for word in spelled):
        return
    size = len(spelled)
    for start in range(len(said) - size + 1):
        wrong = [(a.text, b.text) for a, b in zip(spelled, said[start : start + size], strict=True) if a.text != b.text]
        if (len(wrong) == 1 and _is_a_slip(*wrong[0], alone=size == 1)) or (
            size > 1 and all(min(map(len, pair)) >= _LONG_OF_MANY and _is_a_slip(*pair, alone=False) for pair in wrong)
        ):
            yield start, start + size


def _is_a_slip(one: str, other: str, *, alone: bool) -> bool:
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


def root(word: str) -> str:
    """`word` without the ending of a verb either ("marks", "marked", "marking"); only good for comparing."""
    plain = stem(word)
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_ROOT:
            plain = word[: -len(ending)]
            plain = plain[:-1] if plain[-1] == plain[-2] and plain[-1] not in "ls" else plain
    return plain[:-1] if len(plain) > _SHORTEST_ROOT and plain.endswith("e") else plain


_SHORTEST_ROOT = 3
_WORDS_OF_A_COMPOUND = 2
_MOST_APART = 2
_TURNING = frozenset({"before", "after", "without", "above", "below", "under", "outside", "inside", "until", "beyond"})
"""Prepositions that no phrase can lose without meaning something else."""


def _turned_round(content: Sequence[str], said: Sequence[Word]) -> Iterator[Span]:
    """ "structure of DNA" for "DNA structure": the second word first, and the first linked to it."""
    first, second = content
    for n, word in enumerate(said):
        if stem(word.text) != second or n + 2 >= len(said) or said[n + 1].text not in _OF:
            continue
        for end in range(n + 2, min(n + 3 + _MOST_APART, len(said))):
            if said[end].clause != word.clause or said[end].text in FUNCTION_WORDS:
                break
            if stem(said[end].text) == first:
                yield n, end + 1
                break


_OF = frozenset({"of", "for", "in", "from"})


def _gathered(alias: Sequence[Word], said: Sequence[Word], negators: set[str]) -> Iterator[Span]:
    """A phrase in words of the same roots, close together: in its order where there are two ("marking a location" for
    "marks locations"), in any where there are more, of which one may be left
    out from four on, if it is no name or number.
    """
    content = [root(word.text) for word in alias]
    must = {root(word.text) for word in alias if word.named or word.text.isdigit()}
    size = len(content)
    if size < _WORDS_OF_A_COMPOUND or len(set(content)) != size:
        return
    wanted = set(content)
    needed = size if size <= _FEWEST_WORDS_OF_A_PHRASE else size - 1
    widest = size + (_MOST_APART if size == _WORDS_OF_A_COMPOUND else size + _MOST_APART)
    places = [(n, one) for n, word in enumerate(said) if (one := root(word.text)) in wanted]
    for k, (start, _) in enumerate(places):
        seen: list[str] = []
        for end, one in places[k:]:
            if end - start >= widest or said[end].sentence != said[start].sentence:
                break
            if one not in seen:
                seen.append(one)
            if len(seen) >= needed and must <= set(seen):
                ordered = size > _WORDS_OF_A_COMPOUND or seen == list(content)
                if ordered and {word.text for word in said[start : end + 1]} & NEGATORS == negators:
                    yield start, end + 1
                break


# Names of people


def _is_a_name(spelled: Sequence[Word]) -> bool:
    return 2 <= len(spelled) <= 6 and all(
        (word.named and not word.text[0].isdigit()) or word.text in PARTICLES for word in spelled
    )


def _other_forms_of_a_name(spelled: Sequence[Word], said: Sequence[Word], *, of_a_person: bool) -> Iterator[Span]:
    """Without middle names; with others, by the surname alone or by initials where a person is asked for."""
    first, last = spelled[0].text, spelled[-1].text
    given = [word.text for word in spelled[:-1]]
    holds_particle = any(word.text in PARTICLES for word in spelled)
    for end in (n for n, word in enumerate(said) if word.text == last and word.named):
        middle = 0
        start = end - 1
        while start >= 0 and middle <= _MOST_MIDDLE_NAMES and _may_be_of_the_name(said, start, end):
            written = [word.text for word in said[start:end]]
            if written[0] == first and len(written) < len(given):
                yield start, end + 1
                break
            if of_a_person and (_same_first_name(written[0], first) or _same_given_names(written, given)):
                yield start, end + 1
                break
            start, middle = start - 1, middle + 1
        else:
            if of_a_person and not _other_name_before(said, end) and not _name_after(said, end):
                yield end, end + 1
    if of_a_person and holds_particle:
        for n, word in enumerate(said):
            if word.text == first and word.named and not _other_name_before(said, n) and not _name_after(said, n):
                yield n, n + 1


def _may_be_of_the_name(said: Sequence[Word], position: int, end: int) -> bool:
    word = said[position]
    return (word.named or word.text in PARTICLES) and word.sentence == said[end].sentence and word.text not in LINKS


def _same_first_name(written: str, first: str) -> bool:
    shorter, longer = sorted((written, first), key=len)
    return written == first or (len(shorter) >= _SHORT_NAME and longer.startswith(shorter))


def _same_given_names(written: Sequence[str], given: Sequence[str]) -> bool:
    """By initials on either side ("B. R." for "Bhimrao Ramji"), or by the middle name that a person goes by."""
    if list(written[-1:]) == list(given[-1:]) and len(written) == 1 and len(given) > 1:
        return True
    return any(
        len(one) == 1 and one[0] == "".join(name[0] for name in other) and len(one[0]) <= _MOST_MIDDLE_NAMES
        for one, other in ((written, given), (given, written))
    )


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


def _is_of_another_day(span: Span, full: Sequence[WrittenDate], said: Sequence[Word], text: str) -> bool:
    """Whether a year that is a gold stands in a date whose day contradicts the golds that give one for that year."""
    if not full or span[1] - span[0] > _WORDS_OF_A_DATE:
        return False
    start, end = said[span[0]].start, said[span[1] - 1].end
    date = next((date for date in dates(text) if date.start <= start and end <= date.end), None)
    if date is None or date.day is None or date.year is None:
        return False
    of_the_year = [(one.month, one.day) for one in full if one.year == date.year]
    return bool(of_the_year) and (date.month, date.day) not in of_the_year


_WORDS_OF_A_DATE = 3


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
