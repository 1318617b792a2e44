"""An answer cut at its joints: commas, "or", "and", ends of sentences.

What belongs here: pieces, the joints between them, rows of them, and masking the gold. What does not: which pieces name
a candidate (`items`), what stands beside the gold (`candidates`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from milton_assets.tiers.reasoning.text import Span, Word

MARK = "\ue000"
"""Stands for a mention of the gold in a masked text: a character for private use, a word to nobody else."""

_ENUMERATOR = re.compile(r"^[ \t]*(?:\(?\d{1,2}[.)]|[-*•])[ \t]+", re.MULTILINE)
_JOINT = re.compile(
    r"(?<!\d)[,:]|[,:](?!\d)|[;\n•|/()&]|\s-+\s|[.!?]+(?=\s|$)|\b(?:and|or|nor|versus|vs|alternatively|otherwise"
    r"|as well as|if not)\b",
    re.IGNORECASE,
)
QUOTED = re.compile(r'"[^"\n]{1,80}"')
QUOTED_GOLD = re.compile(rf'"{MARK}"\s*$')
APPOSED = ", or"
"""The joint before what may be another word for the gold: "A, or B" and "A (or B)"."""


@dataclass(frozen=True)
class Piece:
    """A part of the answer between two joints: its text with golds masked, and the joint before it."""

    text: str
    joint: str

    @property
    def holds_gold(self) -> bool:
        """Whether the gold is named in it."""
        return MARK in self.text


def masked(text: str, said: Sequence[Word], spans: Sequence[Span]) -> str:
    """`text`, which `said` are the words of, with each span of words replaced by `MARK`."""
    parts, at = [], 0
    for start, end in sorted(spans):
        parts += [text[at : said[start].start], MARK]
        at = said[end - 1].end
    return "".join([*parts, text[at:]])


def cut(text: str) -> list[Piece]:
    """The pieces of `text`, without the numbers and bullets of a list and without empty ones."""
    text = QUOTED.sub(_in_one_piece, _ENUMERATOR.sub("", text))
    pieces, at, joint = [], 0, ""
    for match in _JOINT.finditer(text):
        piece = text[at : match.start()]
        if piece.strip(" '*_`\"\t"):
            pieces.append(Piece(piece, joint))
            joint = ""
        joint = _stronger(joint, match.group().strip().lower() or "\n")
        at = match.end()
    if text[at:].strip(" '*_`\"\t"):
        pieces.append(Piece(text[at:], joint))
    return pieces


def _in_one_piece(quoted: re.Match[str]) -> str:
    """A quoted title as one piece, whatever joints it holds ("Trust and Believe"); one with a gold is left alone."""
    return quoted.group() if MARK in quoted.group() else _JOINT.sub(" ", quoted.group())


def _stronger(one: str, other: str) -> str:
    """Of two joints in a row ("(or", "; and"), the one that says more; "A, or B" and "A (or B)" may say A otherwise."""
    if one in {",", "("} and other == "or":
        return APPOSED
    return one if one[-1:].isalpha() and not other[-1:].isalpha() else other


def row_begins(joined: Sequence[bool]) -> list[int]:
    """For each place, the first of its row, where `joined` says which places go on with the one before."""
    begins: list[int] = []
    for at, goes_on in enumerate(joined):
        begins.append(begins[at - 1] if at and goes_on else at)
    return begins


def row_ends(joined: Sequence[bool]) -> list[int]:
    """For each place, the last of its row."""
    last = len(joined) - 1
    ends = list(range(len(joined)))
    for at in range(last - 1, -1, -1):
        if joined[at + 1]:
            ends[at] = ends[at + 1]
    return ends
