"""Reading an answer whose gold is a name or phrase.

What belongs here: the verdict from what an answer mentions, asserts and commits itself to. What does not: finding
mentions (`naming`), their polarity, the candidates beside them, answers to yes-or-no questions (`yes_no`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from milton_assets.tiers.reasoning.answers import TextAnswer
from milton_assets.tiers.reasoning.candidates import Commitment, commitment
from milton_assets.tiers.reasoning.denial import is_denied
from milton_assets.tiers.reasoning.lexicon import COPULAS
from milton_assets.tiers.reasoning.naming import mentions
from milton_assets.tiers.reasoning.polarity import Polarity, read_mentions
from milton_assets.tiers.reasoning.relation import verbs_of
from milton_assets.tiers.reasoning.text import Span, Word, canonical, occurrences, phrase, words
from milton_assets.tiers.reasoning.verdict import Match, Reason
from milton_assets.tiers.reasoning.wordforms import stem
from milton_assets.tiers.reasoning.yes_no import gold_reply, reply

_OF_COMMITMENT = {
    Commitment.ONE: Match.of(Reason.MATCHED),
    Commitment.SEVERAL: Match.of(Reason.HEDGED),
    Commitment.FIRST_OF_SEVERAL: Match(Reason.HEDGED, for_judge=True),
    Commitment.UNDECIDED: Match.of(Reason.OPEN),
}

_ASKS_WHEN_TOO = re.compile(r"\w,? and (?:(?:in|on) )?(?:(?:what|which) (?:year|date)|when)\b", re.IGNORECASE)
_DIGIT = re.compile(r"\d")
_ONESELF = frozenset({"i", "i'm", "ai"})
_FEWEST_WORDS_OF_AN_ECHO = 2
_NAMING = COPULAS | {"called", "named", "known", "as", "termed", "means"}


def read_text(answer: str, gold: TextAnswer, question: str, rivals: Sequence[str]) -> Match:
    """The verdict on `answer`, a canonical text without its reasons."""
    if (wanted := gold_reply(gold.accept)) is not None:
        given = reply(answer, question)
        return Match.of(Reason.OPEN if given is None else Reason.MATCHED if given is wanted else Reason.OTHER_VALUE)
    text = canonical(answer)
    said = words(text)
    found = read_mentions(mentions(gold.accept, said, text, question), said, question)
    asserted = [mention.span for mention in found if mention.polarity is Polarity.ASSERTED]
    stated = [span for span in asserted if not _repeats_the_question(said, span, question)]
    if states_a_rival(said, rivals, question, stated):
        return Match.of(Reason.RIVAL)
    if stated and not _answers_both(gold.accept, said, text, question):
        return Match.of(Reason.OPEN)
    if stated and all(_is_in_passing(said, span) for span in stated):
        return Match.of(Reason.OPEN)
    if stated:
        return _OF_COMMITMENT[commitment(text, said, stated, question)]
    denied = any(mention.polarity in {Polarity.DENIED, Polarity.FORMER} for mention in found)
    return Match.of(Reason.DENIED if denied else Reason.OPEN)


def _repeats_the_question(said: Sequence[Word], span: Span, question: str) -> bool:
    """Whether the question's own words open a sentence that goes on to answer ("The border of A and B is a river")."""
    start, end = span
    if _is_an_echo(said, span, question):
        return True
    asked = {stem(word) for word in phrase(question)}
    opens = start == 0 or said[start - 1].sentence != said[start].sentence
    goes_on = end < len(said) and said[end].sentence == said[start].sentence and said[end].text in COPULAS
    if not (opens and goes_on) or "or" in phrase(question) or _is_asked_about(said, end + 1, question):
        return False
    return all(stem(w.text) in asked for w in said[start:end])


def _is_asked_about(said: Sequence[Word], at: int, question: str) -> bool:
    """Whether the word there is the verb that the question asks with: "The French were defeated" for "who was …?"."""
    return at < len(said) and stem(said[at].text) in verbs_of(question) and not said[at].named


def _is_an_echo(said: Sequence[Word], span: Span, question: str) -> bool:
    """Whether the question is said again around the mention, two words more than the gold has at least, in its order
    ("Another name for a hairpin bend is …"); whoever repeats a question that offers a choice may be choosing.
    """
    start, end = span
    asked = phrase(question)
    if "or" in asked:
        return False
    held = [word.text for word in said[start:end]]
    for at in range(len(asked) - len(held) + 1):
        if list(asked[at : at + len(held)]) != held:
            continue
        before, after = 0, 0
        while start - before > 0 and at - before > 0 and said[start - before - 1].text == asked[at - before - 1]:
            before += 1
        stop = at + len(held)
        while end + after < len(said) and stop + after < len(asked) and said[end + after].text == asked[stop + after]:
            after += 1
        if before + after >= _FEWEST_WORDS_OF_AN_ECHO:
            return True
    return False


def _answers_both(golds: Sequence[str], said: Sequence[Word], text: str, question: str) -> bool:
    """Whether an answer to "Who was it, and in what year?" names a gold of either sort; true of other questions."""
    if not _ASKS_WHEN_TOO.search(question):
        return True
    sorts = ([gold for gold in golds if _DIGIT.search(gold)], [gold for gold in golds if not _DIGIT.search(gold)])
    return not all(sorts) or all(mentions(sort, said, text, question) for sort in sorts)


def _is_in_passing(said: Sequence[Word], span: Span) -> bool:
    """Whether a single common noun stands in a later sentence and after no verb that names: a word of the account,
    which may be about anything ("A jar filled with treats was hung up"). A number is no noun.
    """
    start, end = span
    first, before = said[start], said[max(0, start - 1)]
    late = first.sentence > _first_claim(said) and end - start == 1
    return late and not first.named and not first.text[0].isdigit() and before.text not in _NAMING


def _first_claim(said: Sequence[Word]) -> int:
    """The first sentence that is not about the one who answers ("As a language model, I do not drink.")."""
    of_oneself = {word.sentence for word in said if word.text in _ONESELF}
    return next((word.sentence for word in said if word.sentence not in of_oneself), 0)


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
