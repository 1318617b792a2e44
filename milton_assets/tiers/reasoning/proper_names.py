"""Where an answer names a person, people or body in another form: shorter, longer, by initials, misspelt.

What belongs here: mentions of an alias that is a proper name. What does not: phrases (`phrasing`), which forms are
looked for when (`naming`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from milton_assets.tiers.reasoning.lexicon import FUNCTION_WORDS, LINKS, PARTICLES, PEOPLES, TITLES
from milton_assets.tiers.reasoning.text import Span, Word
from milton_assets.tiers.reasoning.wordforms import is_a_slip

_PERSON = re.compile(
    r"\b(?:who|whom|whose|(?:which|name of the) (?:\w+ )?(?:actor|actress|singer|author|writer|poet|painter|composer|"
    r"president|king|queen|player|artist|person|man|woman|director|character|inventor|scientist|explorer|politician|"
    r"mathematician|physicist|chemist|philosopher|gymnast|swimmer|footballer|boxer|golfer|astronaut|comedian))\b",
    re.IGNORECASE,
)
_MOST_MIDDLE_NAMES = 3
_SHORT_NAME = 3
_ASKS_FOR_A_PEOPLE = re.compile(
    r"\b(?:who|nationality|nation|country|countries|team|mountains?|range|origin|language|continent|originates?)\b"
    r"|\bwhere (?:do|does|did|is|was)\b.*\b(?:come|originated|from)\b",
    re.IGNORECASE,
)
_OF_A_PEOPLE = frozenset({"n", "an", "ian", "ine", "ish", "ese", "i", "ic", "s", "ean", "e"})
_SHORTEST_PEOPLE = 5
_FEWEST_INITIALS, _MOST_INITIALS = 3, 6
_LONG_OF_MANY = 6


def asks_for_a_person(question: str) -> bool:
    """Whether somebody is asked for, whose name may be told in a shorter or longer form."""
    return bool(_PERSON.search(question))


def _is_a_name(spelled: Sequence[Word]) -> bool:
    return 2 <= len(spelled) <= 6 and all(
        (word.named and not word.text[0].isdigit()) or word.text in PARTICLES for word in spelled
    )


def other_forms(spelled: Sequence[Word], said: Sequence[Word], question: str) -> Iterator[Span]:
    """Without middle names; with others, by the surname alone or by initials where a person is asked for."""
    if not _is_a_name(spelled):
        return
    of_a_person = asks_for_a_person(question)
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
            alone = len(last) > 1 and not _other_name_before(said, end) and not _name_after(said, end)
            if of_a_person and alone:  # "I" is no surname of William I.
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
    if len(written) == 1 and len(given) > 1 and _same_first_name(written[0], given[-1]):
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


def of_that_people(spelled: Sequence[Word], said: Sequence[Word], question: str) -> Iterator[Span]:
    """ "Colombian" for "Colombia", "the Americans" for "American", where a people, country or range is asked for."""
    if not _ASKS_FOR_A_PEOPLE.search(question) or len(spelled) != 1 or not spelled[0].named:
        return
    if len(spelled[0].text) < _SHORTEST_PEOPLE:
        return
    name = spelled[0].text
    for n, word in enumerate(said):
        if word.named and word.text != name and _are_of_one_people(word.text, name):
            yield n, n + 1


def _are_of_one_people(one: str, other: str) -> bool:
    if {(one, other), (other, one)} & PEOPLES:
        return True
    shorter, longer = sorted((one, other), key=len)
    common = next((k for k, (a, b) in enumerate(zip(shorter, longer, strict=False)) if a != b), len(shorter))
    return common >= max(len(shorter) - 1, _SHORTEST_PEOPLE - 1) and longer[common:] in _OF_A_PEOPLE


def abbreviated(spelled: Sequence[Word], said: Sequence[Word], text: str) -> Iterator[Span]:
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


def misspelt(spelled: Sequence[Word], said: Sequence[Word]) -> Iterator[Span]:
    """A long name with a letter more, less, other or in another place; one word of it, all others being right."""
    if not any(word.named for word in spelled):
        return
    size = len(spelled)
    for start in range(len(said) - size + 1):
        wrong = [(a.text, b.text) for a, b in zip(spelled, said[start : start + size], strict=True) if a.text != b.text]
        one = len(wrong) == 1 and (is_a_slip(*wrong[0], alone=size == 1) or _are_of_one_people(*wrong[0]))
        if (one and (size > 1 or is_a_slip(*wrong[0], alone=True))) or (
            size > 1 and all(min(map(len, pair)) >= _LONG_OF_MANY and is_a_slip(*pair, alone=False) for pair in wrong)
        ):
            yield start, start + size
