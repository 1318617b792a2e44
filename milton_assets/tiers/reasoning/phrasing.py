"""Where an answer puts a phrase otherwise: in the plural, another spelling or order, with other gaps, in part.

What belongs here: mentions of an alias that may be any phrase. What does not: forms that only a name has
(`proper_names`), dates and numbers (`values`), which of them are looked for when (`naming`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from milton_assets.tiers.reasoning.lexicon import FUNCTION_WORDS, LINKS, NEGATORS, TITLES
from milton_assets.tiers.reasoning.text import Span, Word, canonical, occurrences, phrase, words
from milton_assets.tiers.reasoning.wordforms import root, stem

_FEWEST_WORDS_OF_A_PHRASE = 3
_FEWEST_LETTERS_TOGETHER = 5
_MOST_WORDS_OF_A_PART = 5
_SEPARATOR = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+")
_STUCK_ON = frozenset({
    "", "and", "in", "of", "at", "from", "which", "is", "was", "to", "for", "by", "with", "on", "as",
})  # fmt: skip
_STUCK_BEFORE = frozenset({"", "the", "in", "on", "of", "is", "was", "than", "by", "at", "as", "called", "named"})
_INNER_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_FEWEST_LETTERS_OF_A_NAME = 3
_WORDS_OF_A_COMPOUND = 2
_MOST_APART = 2
_TURNING = frozenset({"before", "after", "without", "above", "below", "under", "outside", "inside", "until", "beyond"})
"""Prepositions that no phrase can lose without meaning something else."""
_OF = frozenset({"of", "for", "in", "from"})


def inflected(spelled: Sequence[Word], said: Sequence[Word]) -> Iterator[Span]:
    """ "bananas" for "banana", "colour" for "color": common nouns in another number or spelling."""
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


def reordered(spelled: Sequence[Word], said: Sequence[Word]) -> Iterator[Span]:
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


def written_together(needle: Sequence[str], said: Sequence[Word]) -> Iterator[Span]:
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


def elided(spelled: Sequence[Word], said: Sequence[Word], question: str) -> Iterator[Span]:
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


def listed(alias: str, said: Sequence[Word]) -> Iterator[Span]:
    """A gold of several items ("Brazil, Colombia and Ecuador", "Ann Arbor, Michigan"): all of them, in any order."""
    items = [phrase(item) for item in _SEPARATOR.split(canonical(alias))]
    if len(items) < 2 or not all(items):
        return
    places = [next(occurrences(item, said), None) for item in items]
    if None not in places:
        yield from (place for place in places if place is not None)


def without_its_place(alias: str, said: Sequence[Word], text: str) -> Iterator[Span]:
    """ "Oslo" for "Oslo, Norway": the smaller place, unless another one is named beside it ("Paris, Texas")."""
    head, comma, place = canonical(alias).partition(",")
    spelled = words(head)
    if not comma or "," in place or not place.strip()[:1].isupper() or not all(word.named for word in spelled):
        return
    if any(word.text[0].isdigit() or word.text in LINKS for word in (*spelled, *words(place))):
        return
    for start, end in occurrences([word.text for word in spelled], said):
        before = start > 0 and _names_beside(said[start - 1], said[start])
        apart = end == len(said) or text[said[end - 1].end : said[end].start].strip(" ,(")
        if said[start].named and not before and (apart or not _names_beside(said[end], said[start])):
            yield start, end


def _names_beside(word: Word, name: Word) -> bool:
    return word.named and word.sentence == name.sentence and word.text not in FUNCTION_WORDS


def in_part(spelled: Sequence[Word], said: Sequence[Word]) -> Iterator[Span]:
    """An answer that is nothing but a part of the gold, of two words that carry a name or more, and all its numbers."""
    own = [word.text for word in said if word.text not in FUNCTION_WORDS]
    content = [word.text for word in spelled if word.text not in FUNCTION_WORDS]
    if len(said) > _MOST_WORDS_OF_A_PART or len(own) < 2 or 2 * len(own) < len(content):
        return
    numbers = {word for word in content if word.isdigit()}
    if numbers <= set(own) and any(content[n : n + len(own)] == own for n in range(len(content))):
        yield 0, len(said)


def run_together(needle: Sequence[str], said: Sequence[Word]) -> Iterator[Span]:
    """ "Anna Bergin Oslo", "theoak treein": a phrase that lost the space before or after it."""
    size = len(needle)
    if sum(map(len, needle)) < _FEWEST_LETTERS_TOGETHER:
        return
    for start in range(len(said) - size + 1):
        window = [word.text for word in said[start : start + size]]
        before, held, after = "|".join(window).partition("|".join(needle))
        if held and before + after and before in _STUCK_BEFORE and after in _STUCK_ON:
            yield start, start + size


def run_into(spelled: Sequence[Word], said: Sequence[Word], text: str, question: str) -> Iterator[Span]:
    """ "The singerAnna Bergand": a name that lost the spaces beside it, told by its capital from the word before."""
    if not _INNER_CAPITAL.search(text):
        return
    needle = [word.text for word in spelled]
    if not spelled[0].named or not needle[0].isalpha() or sum(map(len, needle)) < _FEWEST_LETTERS_OF_A_NAME:
        return
    parts: list[tuple[str, int]] = []
    torn: set[int] = set()
    for n, word in enumerate(said):
        split = _INNER_CAPITAL.split(text[word.start : word.end])
        if all(one.islower() or one.casefold() in _STUCK_BEFORE for one in split[:-1]) and len(split[0]) > 1:
            torn |= {n} if len(split) > 1 else set()
            parts += [(one.casefold(), n) for one in split] if len(split) > 1 else [(word.text, n)]
        else:
            parts.append((word.text, n))
    stuck_on = _STUCK_ON | set(phrase(question)) | {"after", "before"}
    size = len(needle)
    for at in range(len(parts) - size + 1 if torn else 0):
        window = [one for one, _ in parts[at : at + size]]
        rest = window[-1].removeprefix(needle[-1])
        held = window[:-1] == needle[:-1] and window[-1].startswith(needle[-1]) and rest in stuck_on
        if held and not torn.isdisjoint((parts[at][1], parts[at + size - 1][1])):
            yield parts[at][1], parts[at + size - 1][1] + 1


def turned_round(alias: Sequence[Word], said: Sequence[Word]) -> Iterator[Span]:
    """ "structure of DNA" for "DNA structure": the second word first, and the first linked to it."""
    content = _content(alias)
    if len(content) != _WORDS_OF_A_COMPOUND:
        return
    first, second = (stem(word.text) for word in content)
    for n, word in enumerate(said):
        if stem(word.text) != second or n + 2 >= len(said) or said[n + 1].text not in _OF:
            continue
        for end in range(n + 2, min(n + 3 + _MOST_APART, len(said))):
            if said[end].clause != word.clause or said[end].text in FUNCTION_WORDS:
                break
            if stem(said[end].text) == first:
                yield n, end + 1
                break


def gathered(alias: Sequence[Word], said: Sequence[Word]) -> Iterator[Span]:
    """A phrase in words of the same roots, close together: in its order where there are two ("marking a location" for
    "marks locations"), in any where there are more, of which one may be left
    out from four on, if it is no name or number.
    """
    own = _content(alias)
    if all(word.named for word in own) or not _words_of(alias) & _TURNING <= _words_of(said):
        return
    negators = _words_of(alias) & NEGATORS
    content = [root(word.text) for word in own]
    must = {root(word.text) for word in own if word.named or word.text.isdigit()}
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


def _content(alias: Sequence[Word]) -> list[Word]:
    return [word for word in alias if word.text not in FUNCTION_WORDS]


def _words_of(text: Sequence[Word]) -> set[str]:
    return {word.text for word in text}
