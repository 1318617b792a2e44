"""Is what was said denied? Negations and their reach, within a clause.

What belongs here: reading "not X", "X is not", "Y rather than X". What does not: what a denial means for an answer
(`matching`, `premises`).
"""

from __future__ import annotations

from collections.abc import Sequence

from milton_assets.tiers.reasoning.text import Word

NEGATORS = frozenset({"not", "never", "no", "neither", "nor", "unlike", "except", "without"})
NOT_DENYING = frozenset({"only", "just", "merely", "simply", "surprisingly", "doubt"})
_TURNS = frozenset({"but", "however", "instead", "rather", "although", "though", "because"})
_NEGATING_PAIRS = frozenset({("rather", "than"), ("instead", "of"), ("other", "than"), ("opposed", "to")})
_VERBS_BEFORE_NOT = frozenset(
    {"is", "was", "are", "were", "did", "does", "do", "has", "had", "have", "can", "could", "would", "will"}
)
_REACH_OF_NOT = 5


def is_denied(said: Sequence[Word], start: int, end: int) -> bool:
    """Whether the mention `said[start:end]` is denied within its clause ("not X", "X is not")."""
    return is_denied_before(said, start) or _is_denied_after(said, end)


def is_denied_before(said: Sequence[Word], start: int) -> bool:
    """Whether a negation before `said[start]` reaches it."""
    for position in range(start - 1, max(start - 1 - _REACH_OF_NOT, -1), -1):
        word = said[position]
        if word.clause != said[start].clause or word.text in _TURNS:
            pair = (word.text, said[position + 1].text)
            return word.clause == said[start].clause and pair in _NEGATING_PAIRS
        if (word.text, said[position + 1].text) in _NEGATING_PAIRS:
            return True
        if word.text in NEGATORS:
            return said[position + 1].text not in NOT_DENYING
    return False


def _is_denied_after(said: Sequence[Word], end: int) -> bool:
    rest = [word.text for word in said[end : end + 3] if word.clause == said[end - 1].clause]
    if len(rest) < 2 or rest[0] not in _VERBS_BEFORE_NOT or rest[1] not in {"not", "never"}:
        return False
    return len(rest) < 3 or rest[2] not in NOT_DENYING
