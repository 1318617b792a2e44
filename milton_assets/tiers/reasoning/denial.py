"""Is what was said denied? Negations and their reach, within a clause.

What belongs here: reading "not X", "X is not", "Y rather than X", "anything but X", "I doubt that it is X", "X is
wrong". What does not: what a denial means for an answer (`polarity`, `premises`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from milton_assets.tiers.reasoning.lexicon import COPULAS, DOUBTERS, NEGATORS
from milton_assets.tiers.reasoning.text import Word

NOT_DENYING = frozenset({"only", "just", "merely", "simply", "surprisingly", "doubt"})
_TURNS = frozenset({"but", "however", "instead", "rather", "although", "though", "because"})
_NEGATING_PAIRS = frozenset({("rather", "than"), ("instead", "of"), ("other", "than"), ("opposed", "to")})
_EVERYTHING = frozenset({"anything", "everything", "all", "any", "anywhere", "everywhere", "anyone", "everyone"})
_NO_ROOM_FOR_DOUBT = frozenset({"no", "not", "never", "without", "nobody", "beyond", "little", "cannot", "hardly"})
_VERBS_BEFORE_NOT = frozenset(
    {"is", "was", "are", "were", "did", "does", "do", "has", "had", "have", "can", "could", "would", "will"}
)
_REACH_OF_NOT = 5
_REACH_OF_WRONG = 4


def is_denied(said: Sequence[Word], start: int, end: int, denied_by_question: Collection[str] = ()) -> bool:
    """Whether the mention `said[start:end]` is denied within its clause ("not X", "X is not").

    A negation of `denied_by_question` only repeats how the question was put: asked which planet does not have a moon,
    "Venus does not have a moon" denies nothing.
    """
    return is_denied_before(said, start, denied_by_question) or _is_denied_after(said, end, denied_by_question)


def is_denied_before(said: Sequence[Word], start: int, denied_by_question: Collection[str] = ()) -> bool:
    """Whether a negation before `said[start]` reaches it."""
    for position in range(start - 1, max(start - 1 - _REACH_OF_NOT, -1), -1):
        word, follower = said[position], said[position + 1].text
        if word.clause != said[start].clause:
            return False
        if (word.text, follower) in _NEGATING_PAIRS:
            return True
        if word.text == "but" and position > 0 and said[position - 1].text in _EVERYTHING:
            return True
        if word.text in _TURNS:
            return False
        if word.text in DOUBTERS and not _is_of_a_title(word, denied_by_question):
            return not _is_beyond_doubt(said, position)
        if word.text in NEGATORS and word.text not in denied_by_question:
            return follower not in NOT_DENYING
    return False


def _is_of_a_title(word: Word, denied_by_question: Collection[str]) -> bool:
    """Whether a word of doubt is part of a name that the question gives ("Mission Impossible was written by …")."""
    return word.named and word.text in denied_by_question


def _is_beyond_doubt(said: Sequence[Word], position: int) -> bool:
    return any(word.text in _NO_ROOM_FOR_DOUBT for word in said[max(0, position - 2) : position])


def _is_denied_after(said: Sequence[Word], end: int, denied_by_question: Collection[str]) -> bool:
    following = [word for word in said[end : end + _REACH_OF_WRONG] if word.clause == said[end - 1].clause]
    rest = [word.text for word in following]
    if len(rest) < 2:
        return False
    if rest[0] in _VERBS_BEFORE_NOT and rest[1] in {"not", "never"} - set(denied_by_question):
        return len(rest) < 3 or rest[2] not in NOT_DENYING
    if rest[0] in _VERBS_BEFORE_NOT and rest[1:3] == ["no", "longer"]:
        return True
    doubts = (word.text in DOUBTERS and not _is_of_a_title(word, denied_by_question) for word in following)
    wrong = next((n for n, doubt in enumerate(doubts) if doubt), None)
    return wrong is not None and any(word in COPULAS for word in rest[:wrong]) and "not" not in rest[:wrong]
