"""Reading an answer whose gold is a name or phrase.

What belongs here: the verdict from what an answer mentions, asserts and commits itself to. What does not: finding
mentions (`naming`), their polarity, the candidates beside them, answers to yes-or-no questions (`yes_no`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from milton_assets.tiers.reasoning.answers import TextAnswer
from milton_assets.tiers.reasoning.candidates import Commitment, commitment
from milton_assets.tiers.reasoning.denial import is_denied
from milton_assets.tiers.reasoning.naming import Span, mentions
from milton_assets.tiers.reasoning.polarity import Polarity, read_mentions
from milton_assets.tiers.reasoning.text import Word, canonical, occurrences, phrase, words
from milton_assets.tiers.reasoning.verdict import Reason
from milton_assets.tiers.reasoning.yes_no import gold_reply, reply

_OF_COMMITMENT = {
    Commitment.ONE: Reason.MATCHED,
    Commitment.SEVERAL: Reason.HEDGED,
    Commitment.UNDECIDED: Reason.OPEN,
}


def read_text(answer: str, gold: TextAnswer, question: str, rivals: Sequence[str]) -> Reason:
    """The verdict on `answer`, a canonical text without its reasons."""
    if (wanted := gold_reply(gold.accept)) is not None:
        given = reply(answer, question)
        return Reason.OPEN if given is None else Reason.MATCHED if given is wanted else Reason.OTHER_VALUE
    text = canonical(answer)
    said = words(text)
    found = read_mentions(mentions(gold.accept, said, text, question), said, question)
    stated = [mention.span for mention in found if mention.polarity is Polarity.ASSERTED]
    if states_a_rival(said, rivals, question, stated):
        return Reason.RIVAL
    if stated:
        return _OF_COMMITMENT[commitment(text, said, stated, question)]
    denied = any(mention.polarity in {Polarity.DENIED, Polarity.FORMER} for mention in found)
    return Reason.DENIED if denied else Reason.OPEN


def states_a_rival(said: Sequence[Word], rivals: Iterable[str], question: str, golds: Sequence[Span]) -> bool:
    """Whether a known wrong answer is asserted. One that the question names, or that is part of a gold, is none."""
    asked = words(question)
    for rival in rivals:
        spelled = phrase(rival)
        if any(occurrences(spelled, asked)):
            continue
        for start, end in occurrences(spelled, said):
            inside_gold = any(a <= start and end <= b for a, b in golds)
            if not inside_gold and not is_denied(said, start, end):
                return True
    return False
