"""Does an answer see through a false premise, or does it take the premise for granted?

What belongs here: comparing an answer with what its question wrongly supposes. What does not: any other kind of
answer (`matching`), negations (`denial`).

The correcting fact alone shows nothing: "Sydney is the capital because Canberra was too small" names it and swallows
the premise. So an answer sees through the premise in one of two ways only, both outside of the reasons that it gives:

- it denies the premise: a phrase of the premise is negated ("did not walk on Mars", "there is no such tunnel") or
  rejected ("that he won the Nobel Prize in Chemistry is a myth");
- it states the correction as its claim, in a whole statement such as "the capital of Australia is Canberra".

It takes the premise for granted when, before any of that is denied, it states the premise or gives one of the known
wrong answers; or when it states the premise anywhere beside a mere correction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from milton_assets.tiers.reasoning.answers import PremiseAnswer
from milton_assets.tiers.reasoning.claim import claim_of
from milton_assets.tiers.reasoning.denial import NOT_DENYING, is_denied
from milton_assets.tiers.reasoning.lexicon import NEGATORS
from milton_assets.tiers.reasoning.text import Span, Word, occurrences, phrase, words

_EMPHASIS = frozenset({"actually", "really", "indeed", "instead", "truly", "ever", "even"})
_DENYING_VERBS_AND_NOUNS = frozenset({
    "not", "never", "neither", "nor", "nobody", "misconception", "myth", "false", "untrue", "incorrect", "mistaken",
    "wrong", "contrary",
})  # fmt: skip
_ENDS_OF_REACH = frozenset({
    "but", "however", "although", "though", "and", "as", "since", "while", "when", "why", "how", "where", "until",
    "before", "after", "if", "so", "who", "which", "whether", "because",
})  # fmt: skip
_NOT_DENYING = NOT_DENYING | {
    "always", "many", "all", "everyone", "long", "yet", "know", "known", "sure", "certain", "clear", "remember",
    "recall", "aware", "familiar", "specified", "mentioned",
}  # fmt: skip
_REACH = 8
_REACH_OF_NO = 3
_REJECTIONS = tuple(map(phrase, (
    "is false", "is not true", "is untrue", "is incorrect", "is not correct", "is wrong", "is a myth", "is a mistake",
    "is a misconception", "is a common misconception", "is a popular misconception", "is mistaken", "never happened",
    "did not happen", "never took place", "did not take place", "does not exist", "do not exist", "never existed",
    "is not real", "is fictional",
)))  # fmt: skip


class Stance(StrEnum):
    """How an answer stands to the premise of its question."""

    SEES_THROUGH = "sees_through"
    TAKES_FOR_GRANTED = "takes_for_granted"
    HEDGES = "hedges"
    SILENT = "silent"


def stance(answer: str, gold: PremiseAnswer, rivals: Sequence[str] = ()) -> Stance:
    """How `answer` stands to the premise that `gold` describes. `rivals` are known answers that swallow it."""
    said = [word for word in words(claim_of(answer)) if word.text not in _EMPHASIS]
    statements = [span for span in _spans(gold.states, said) if _may_stand_there(said, *span)]
    affirmed = [span for span in statements if not _is_negated(said, *span)]
    premises = [span for span in _spans(gold.premise, said) if not any(_overlap(span, other) for other in affirmed)]
    denials = [span for span in (*premises, *_spans(gold.denied, said)) if _is_negated(said, *span)]
    denials += [span for span in affirmed if any(word.text in NEGATORS for word in said[slice(*span)])]
    swallowing = _spans(rivals, said)
    if any(_offers_another(said, span, swallowing, denies=span in denials) for span in (*affirmed, *denials)):
        return Stance.HEDGES
    asserted = [span for span in premises if span not in denials]
    asserted += [span for span in swallowing if not is_denied(said, *span)]
    if asserted and min(asserted) < min(denials, default=(len(said), 0)):
        return Stance.TAKES_FOR_GRANTED
    return Stance.SEES_THROUGH if affirmed or denials else Stance.SILENT


def _may_stand_there(said: Sequence[Word], start: int, end: int) -> bool:
    """A single word such as "none" answers where the answer opens; later it is about something else."""
    return end - start > 1 or said[start].clause == said[0].clause


def _offers_another(said: Sequence[Word], span: Span, swallowing: Sequence[Span], *, denies: bool) -> bool:
    """Whether "or" stands beside it. After a denial it may go on ("no wings or legs"), but not to a wrong answer."""
    start, end = span
    before = start > 0 and said[start - 1].text == "or"
    after = end < len(said) and said[end].text == "or"
    if not denies:
        return before or after
    wrong_follows = end + 1 == len(said) or any(other[0] == end + 1 for other in swallowing)
    return after and wrong_follows


def _spans(phrases: Iterable[str], said: Sequence[Word]) -> list[Span]:
    spelled = (tuple(word for word in phrase(text) if word not in _EMPHASIS) for text in phrases)
    return [span for needle in spelled for span in occurrences(needle, said)]


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _is_negated(said: Sequence[Word], start: int, end: int) -> bool:
    return _is_negated_before(said, start) or _is_rejected_after(said, end)


def _is_negated_before(said: Sequence[Word], start: int) -> bool:
    for position in range(start - 1, max(start - 1 - _REACH, -1), -1):
        word, follower = said[position], said[position + 1].text
        if word.clause != said[start].clause or word.text in _ENDS_OF_REACH:
            return False
        if word.text in _DENYING_VERBS_AND_NOUNS:
            return follower not in _NOT_DENYING
        if word.text == "no" and start - position <= _REACH_OF_NO:
            return follower not in NOT_DENYING
        if (word.text, follower) in {("rather", "than"), ("no", "1")}:
            return True
    return False


def _is_rejected_after(said: Sequence[Word], end: int) -> bool:
    reach = []
    for word in said[end : end + _REACH]:
        if word.clause != said[end - 1].clause or word.text in _ENDS_OF_REACH:
            break
        reach.append(word)
    return any(any(occurrences(rejection, reach)) for rejection in _REJECTIONS)
