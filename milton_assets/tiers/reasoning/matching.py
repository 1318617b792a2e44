"""Is this answer right? Decided without a model: aliases, numbers with units, dates and lists.

What belongs here: which reader an answer goes to, by the type of its gold. What does not: the readers
(`text_answers`, `number_answers`, `date_answers`, `list_answers`, `premises`), the judge for what stays open (`judge`),
counting (`scoring`).

An answer is right when the claim that it makes about the question is the gold:

- what stands in a reason ("…, because each hour has 60 minutes") is no part of the claim, unless nothing else is said;
- a mention counts when it is asserted: not denied, asked, put under a condition, or told of the past;
- the answer commits itself to it: an answer that plainly offers several is `hedged`, one that also states a known
  wrong answer is `rival`; both are wrong, since naming everything would otherwise always be right;
- of several numbers the answer is the one after "=", "answer is" or "####", else the last that the question did
  not give; a unit of another dimension is wrong, a unit of the same dimension is converted;
- of several dates the answer is the one that stands with the question's own verb ("began in 1939 and ended in 1945");
- a list is a closed set: an item beyond it is `hedged`, a known wrong one `rival`;
- a question with a false premise is answered by denying or correcting it (`premises`).

What neither states the gold nor anything that competes with it is `open`, and so is what words alone do not settle: it
counts as wrong, unless a qualified judge says otherwise. So does a `hedged` answer that names the gold before it names
anything else: a second candidate never gets to the judge, and a list of words does not either, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Sequence

from milton_assets.tiers.reasoning.answers import (
    MOST_ALIAS_CHARACTERS,
    DateAnswer,
    Gold,
    ListAnswer,
    NumberAnswer,
    PremiseAnswer,
    TextAnswer,
)
from milton_assets.tiers.reasoning.claim import claim_of
from milton_assets.tiers.reasoning.date_answers import read_date
from milton_assets.tiers.reasoning.list_answers import read_list
from milton_assets.tiers.reasoning.number_answers import read_number
from milton_assets.tiers.reasoning.premises import Stance, stance
from milton_assets.tiers.reasoning.text import canonical, phrase, words
from milton_assets.tiers.reasoning.text_answers import read_text
from milton_assets.tiers.reasoning.verdict import Match, Reason
from milton_assets.tiers.reasoning.word_lists import (
    enumerates,
    is_a_list_of_words,
    is_nothing_but_a_list,
    is_soup,
)

MOST_CHARACTERS = MOST_ALIAS_CHARACTERS
"""An answer longer than this answers no question that was put here; it also bounds what matching costs."""

MOST_SENTENCES = 8
"""An answer to a false premise that says more, when one correction was asked for, may be a list of them."""

_OF_STANCE = {
    Stance.SEES_THROUGH: Reason.MATCHED,
    Stance.TAKES_FOR_GRANTED: Reason.PREMISE_TAKEN,
    Stance.HEDGES: Reason.HEDGED,
    Stance.SILENT: Reason.OPEN,
}
_YEARS = range(1000, 3000)


def match(answer: str, gold: Gold, *, question: str, rivals: Sequence[str] = ()) -> Match:
    """Compare `answer` with `gold`. `rivals` are known wrong answers; those the question names do not compete."""
    if len(answer) > MOST_CHARACTERS:
        return Match.of(Reason.TOO_LONG)
    if not words(answer):
        return Match.of(Reason.EMPTY)
    if isinstance(gold, TextAnswer) and phrase(answer) in map(phrase, gold.accept) and "?" not in answer:
        return _exact(answer, gold, question)
    claim = claim_of(answer)
    said = claim if words(claim) else canonical(answer)
    found = Match.of(Reason.OPEN) if is_soup(said, question) else _read(answer, said, gold, question, rivals)
    if found.for_judge and is_a_list_of_words(said, question):
        return Match(found.reason, for_judge=False)
    return found


def _read(answer: str, said: str, gold: Gold, question: str, rivals: Sequence[str]) -> Match:
    """The verdict of the reader of such golds on `answer`, which without its reasons is `said`."""
    if isinstance(gold, PremiseAnswer):
        return Match.of(_premise(answer, gold, rivals))
    if isinstance(gold, ListAnswer):
        return Match.of(read_list(canonical(answer), gold, question, rivals))
    if isinstance(gold, NumberAnswer | DateAnswer) and is_nothing_but_a_list(said, question, numbers=True):
        return Match.of(Reason.HEDGED)
    if isinstance(gold, NumberAnswer):
        if (year := _as_year(gold, question)) is not None:
            return Match.of(read_date(said, year, question))
        return Match.of(read_number(said, gold, question))
    if isinstance(gold, DateAnswer):
        return Match.of(read_date(said, gold, question))
    return read_text(said, gold, question, rivals)


def _exact(answer: str, gold: TextAnswer, question: str) -> Match:
    """The words of an alias and no others; signs and units still have to agree."""
    written = {canonical(alias).strip(" .!").casefold() for alias in gold.accept}
    if canonical(answer).strip(" .!").casefold() in written:
        return Match.of(Reason.MATCHED)
    return read_text(canonical(answer), gold, question, ())


def _premise(answer: str, gold: PremiseAnswer, rivals: Sequence[str]) -> Reason:
    """An answer that goes on and on may deny everything; whether it means this premise is for a judge."""
    found = _OF_STANCE[stance(answer, gold, rivals)]
    if found is not Reason.MATCHED:
        return found
    if enumerates(canonical(answer)):
        return Reason.HEDGED
    return Reason.OPEN if words(answer)[-1].sentence >= MOST_SENTENCES else found


def _as_year(gold: NumberAnswer, question: str) -> DateAnswer | None:
    """A whole number that a question for a time asks for is a year: "in 1945, 17 August" says 1945."""
    exact = gold.unit is None and not gold.abs_tol and not gold.rel_tol and gold.value.is_integer()
    asks = set(phrase(question)) & {"year", "when", "date"}
    return DateAnswer(year=int(gold.value)) if exact and asks and gold.value in _YEARS else None
