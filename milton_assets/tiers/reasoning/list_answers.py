"""Reading an answer whose gold is a list of items.

What belongs here: which items an answer names, and whether it names others. What does not: where an item is named
(`naming`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from milton_assets.tiers.reasoning.answers import ListAnswer
from milton_assets.tiers.reasoning.denial import is_denied
from milton_assets.tiers.reasoning.lexicon import FUNCTION_WORDS
from milton_assets.tiers.reasoning.naming import mentions
from milton_assets.tiers.reasoning.pieces import MARK, masked
from milton_assets.tiers.reasoning.text import Word, canonical, phrase, words
from milton_assets.tiers.reasoning.text_answers import states_a_rival
from milton_assets.tiers.reasoning.verdict import Reason

_FEW_WORDS = 4
_ENUMERATOR = re.compile(r"^[ \t]*(?:\(?\d{1,2}[.)]|[-*•])[ \t]+", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_ITEMS = re.compile(r"[,;\n•|&]|\b(?:and|or|plus|as well as|along with)\b", re.IGNORECASE)


def read_list(answer: str, gold: ListAnswer, question: str, rivals: Sequence[str]) -> Reason:
    """The verdict on `answer`, with its reasons: they name no items."""
    text = canonical(answer)
    said = words(text)
    aliases = [alias for item in gold.items for alias in item]
    spans = mentions(aliases, said, text, question)
    if states_a_rival(said, _wrong_items(rivals, aliases), question, spans):
        return Reason.RIVAL
    stated = [span for span in spans if not said[span[0]].asked and not is_denied(said, *span)]
    found = sum(bool(set(mentions(item, said, text, question)) & set(stated)) for item in gold.items)
    if not found:
        return Reason.OPEN
    if found < gold.needed:
        return Reason.INCOMPLETE
    return Reason.HEDGED if not gold.open and _names_others(masked(text, said, spans), question) else Reason.MATCHED


def _wrong_items(rivals: Sequence[str], aliases: Sequence[str]) -> list[str]:
    """What known wrong lists name beyond the gold: "Mars" of "Mercury and Mars"."""
    golds = set(map(phrase, aliases))
    others = []
    for rival in rivals:
        text = canonical(rival)
        said = words(text)
        spans = mentions(aliases, said, text, "")
        others += [piece for piece in _ITEMS.split(masked(text, said, spans).replace(MARK, ",")) if phrase(piece)]
    return [piece for piece in others if phrase(piece) not in golds]


def _names_others(text: str, question: str) -> bool:
    """Whether an enumeration names anything beside the masked gold. Words about what was asked for ("inferior
    planets") are no item.
    """
    asked = _letters(question)
    for sentence in _enumerations(text):
        pieces = [piece for piece in _ITEMS.split(sentence) if MARK in piece or phrase(piece)]
        if not any(MARK in piece for piece in pieces):
            continue
        for piece in pieces:
            if MARK in piece:
                if _names_beside(piece, asked):
                    return True
            elif len(phrase(piece)) <= _FEW_WORDS and not _speaks_of(piece, asked):
                return True
    return False


def _enumerations(text: str) -> list[str]:
    """The sentences, where those of a few words in a row ("Paris. Rome. Oslo.") are one enumeration."""
    runs: list[str] = []
    short = False
    for sentence in _SENTENCE_END.split(_ENUMERATOR.sub("", text)):
        if (few := len(phrase(sentence)) <= _FEW_WORDS) and short:
            runs[-1] += f", {sentence}"
        else:
            runs.append(sentence)
        short = few
    return runs


def _letters(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", canonical(text))


def _speaks_of(piece: str, asked: Sequence[str]) -> bool:
    """Whether a piece is a remark: it has a verb or a pronoun, or repeats a common noun of the question."""
    nouns = {word for word in asked if word.islower() and len(word) > 2}
    return bool(set(phrase(piece)) & (FUNCTION_WORDS - {"of"})) or bool(set(_letters(piece)) & nouns)


def _names_beside(piece: str, asked: Sequence[str]) -> bool:
    """A name right after the last gold of a piece makes another name of it ("North America" of "north"), and words
    between golds, with nothing that joins them, are items too ("red mauve green").
    """
    _, *between, after = piece.split(MARK)
    follower = words(after)[:1]
    if follower and follower[0].clause == 0 and follower[0].named and not _is_asked(follower[0], asked):
        return True
    return any(
        any(word.text not in FUNCTION_WORDS for word in words(gap)) and not _speaks_of(gap, asked)
        for gap in between
        if gap.strip()
    )


def _is_asked(word: Word, asked: Sequence[str]) -> bool:
    return any(word.text.startswith(one.casefold()) or one.casefold().startswith(word.text) for one in asked)
