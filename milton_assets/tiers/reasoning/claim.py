"""What an answer claims, apart from the reasons that it gives.

What belongs here: leaving reasons out. What does not: reading the claim (`matching`, `premises`).

"180 minutes, because each hour has 60" claims 180; the 60 is no answer. A reason runs from its conjunction to the end
of its sentence; one that opens a sentence runs to the next comma ("As an hour has 60 minutes, there are 180"). "As"
and "since" are conjunctions of reason only at the start of a clause, and not in "as of", "as well as", "since 1949".
"""

from __future__ import annotations

import re

from milton_assets.tiers.reasoning.text import canonical

_AMBIGUOUS = r"(?:as(?! (?:of|well|many|much|long|far|for|soon)\b)|since(?! (?:\d{4}|then|the year)\b))"
_OPENING = re.compile(
    rf"(?:(?<=^)|(?<=\n)|(?<=[.!?] ))(?:because(?! of\b)|given that|{_AMBIGUOUS})\b[^.!?\n,;]*,", re.IGNORECASE
)
_REASON = re.compile(
    rf"(?:\b(?:because(?! of\b)|given that)\b|[,;:(-] {{0,3}}{_AMBIGUOUS}\b)(?:[^.!?\n]|\.(?=\d))*", re.IGNORECASE
)


def claim_of(answer: str) -> str:
    """`answer` in canonical characters, without its reasons; empty when it is nothing but a reason."""
    return _REASON.sub("", _OPENING.sub("", canonical(answer)))
