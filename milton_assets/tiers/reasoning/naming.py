"""Where an answer names the gold, in the words that people accept for it.

What belongs here: which ways to say an alias are looked for, and in what order: as it is written first, looser ways
only where no alias is found so. What does not: the ways themselves (`phrasing`, `proper_names`, `values`), whether a
mention is asserted (`polarity`), what stands beside it (`candidates`).

Every rule needs something that tells it from a coincidence: plurals and spellings need a word in lower case (names
have neither), another order needs a linking word or a number in the alias, short names need a question about a person.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from milton_assets.tiers.reasoning import phrasing, proper_names, values
from milton_assets.tiers.reasoning.aliases import forms
from milton_assets.tiers.reasoning.text import Span, Word, occurrences, words

_MOST_WORDS_OF_A_PHRASE = 12


def mentions(aliases: Sequence[str], said: Sequence[Word], text: str, question: str) -> list[Span]:
    """Every place in `said`, the words of `text`, that names one of `aliases`; the longest where they overlap."""
    full = tuple(date for alias in aliases if (date := values.as_date(alias)) is not None)
    written = tuple(dict.fromkeys(form for alias in aliases for form in forms(alias)))
    found = [span for form in written for span in _as_written(form, said, text, question)]
    found = [span for span in found if not values.is_of_another_day(span, full, said, text)]
    if not found:
        found = [
            span for form in written for span in _put_otherwise(form, said, text, question, in_part=form not in aliases)
        ]
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
    if (quantity := values.as_quantity(alias)) is not None:
        yield from values.quantity_spans(quantity, exact, said, text, question)
        return
    yield from (span for span in exact if not _is_the_pronoun(alias, said[span[0]]))
    if (date := values.as_date(alias)) is not None:
        yield from values.date_spans(date, said, text, question)
        return
    if len(needle) > _MOST_WORDS_OF_A_PHRASE:
        return
    yield from phrasing.inflected(spelled, said)
    yield from phrasing.reordered(spelled, said)
    yield from phrasing.written_together(needle, said)
    yield from proper_names.abbreviated(spelled, said, text)
    yield from proper_names.other_forms(spelled, said, question)


def _is_the_pronoun(alias: str, word: Word) -> bool:
    """Whether `word` is the pronoun ("told us") that the alias, a state, looks like."""
    return alias == "US" and not word.named


def _put_otherwise(alias: str, said: Sequence[Word], text: str, question: str, *, in_part: bool) -> Iterator[Span]:
    """Looser ways to say it, looked for where no alias is found as it is written. What is but a word of an alias may
    not be misspelt as well.
    """
    yield from values.year_spans(alias, said, text, question)
    yield from values.decade_spans(alias, said, text, question)
    spelled = words(alias)
    is_a_value = values.as_quantity(alias) is not None or values.as_date(alias) is not None
    if is_a_value or len(spelled) > _MOST_WORDS_OF_A_PHRASE:
        return
    yield from phrasing.listed(alias, said)
    yield from phrasing.in_part(spelled, said)
    yield from phrasing.elided(spelled, said, question)
    yield from phrasing.without_its_place(alias, said, text)
    yield from proper_names.of_that_people(spelled, said, question)
    yield from phrasing.run_together([word.text for word in spelled], said)
    yield from phrasing.run_into(spelled, said, text, question)
    if len(spelled) > 1 or not in_part:
        yield from proper_names.misspelt(spelled, said)
    yield from phrasing.turned_round(spelled, said)
    yield from phrasing.gathered(spelled, said)
