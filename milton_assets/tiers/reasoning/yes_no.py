"""Reading an answer to a yes-or-no question.

What belongs here: whether an answer says yes or no. What does not: any other gold.

An answer says what it opens with ("Yes, there is no doubt"); one that opens with neither says yes when it repeats the
question as a statement, and no when it denies it. Asked "Did he not win?", "He did not win" is no.
"""

from __future__ import annotations

from collections.abc import Sequence

from milton_assets.tiers.reasoning.lexicon import FUNCTION_WORDS, NEGATORS
from milton_assets.tiers.reasoning.text import phrase, words
from milton_assets.tiers.reasoning.wordforms import stem

_YES = frozenset({"yes", "yeah", "yep", "true", "correct", "indeed", "right", "certainly", "absolutely", "affirmative"})
_NO = frozenset({"no", "nope", "false", "incorrect", "wrong", "untrue", "negative", "never"})
_ANSWERS = frozenset({("yes",), ("no",), ("true",), ("false",)})
_OPENERS = frozenset({"answer", "is", "it", "that", "this", "statement", "so", "well"})
_REPEATED = 0.5


def gold_reply(accept: Sequence[str]) -> bool | None:
    """Whether a gold says yes (or true), or no (or false); None when it is no such gold."""
    spelled = {phrase(alias) for alias in accept}
    if not spelled <= _ANSWERS:
        return None
    says_yes = {one in {("yes",), ("true",)} for one in spelled}
    return says_yes.pop() if len(says_yes) == 1 else None


def reply(answer: str, question: str) -> bool | None:
    """Whether `answer` says yes or no; None when it says neither, or both."""
    said = words(answer)
    opening = next((word for word in said if word.text not in _OPENERS), None)
    if opening is None or opening.asked:
        return None
    if opening.text in _YES | _NO and not _is_determiner(opening.text, [word.text for word in said]):
        says_yes = opening.text in _YES
        first = [word.text for word in said if word.clause == opening.clause]
        if set(first) & (_NO if says_yes else _YES) - {opening.text} or "or" in first:
            return None
        if "not" in first[: first.index(opening.text)]:
            return not says_yes
        return says_yes
    asked = {stem(word) for word in phrase(question) if word not in FUNCTION_WORDS}
    sentence = [word.text for word in said if word.sentence == said[0].sentence]
    repeated = asked & {stem(word) for word in sentence}
    if not asked or len(repeated) < _REPEATED * len(asked):
        return None
    return not set(sentence) & NEGATORS


def _is_determiner(opening: str, said: Sequence[str]) -> bool:
    """ "No whale is a fish" denies what it says; it is read as a statement."""
    following = said[said.index(opening) + 1 :]
    return opening == "no" and bool(following) and following[0] not in FUNCTION_WORDS
