"""Does a mention stand where the question's own verb puts its answer?

What belongs here: "… is played by X" for "who plays …?", "… lives in X" for "where does … live?". What does not: where
the gold is named (`naming`), what else the answer offers (`candidates`).

"The girl is Vanellope, and she is voiced by Sarah" names two people, of whom one answers "who plays the girl?": it is
the agent of the verb that was asked for. Verbs of one trade count as one: a role is played, portrayed or voiced.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from milton_assets.tiers.reasoning.lexicon import COPULAS, FUNCTION_WORDS, TITLES
from milton_assets.tiers.reasoning.text import Span, Word, phrase
from milton_assets.tiers.reasoning.wordforms import stem

_TRADES = tuple(
    frozenset(map(stem, trade.split()))
    for trade in (
        "play plays played playing portray portrayed portrays voice voices voiced star stars starred starring cast act",
        "sing sings sang sung singing perform performed performs record recorded records singer cover covered",
        "write writes wrote written author authored pen penned compose composed composes writer composer",
        "make makes made create created creates invent invented design designed develop developed build built produce",
        "found founded start started establish established begin began begun",
        "win wins won winning defeat defeated beat",
    )
)
_PLACING = frozenset({"in", "on", "at", "near", "during", "since"})
_ASKS_WHO = re.compile(r"\b(?:who|whom|whose|which|by what)\b", re.IGNORECASE)
_ASKS_WHERE_OR_WHEN = re.compile(
    r"\b(?:where|when|(?:in|on|at) (?:which|what)"
    r"|(?:what|which) (?:year|date|city|country|state|town|season|episode))\b",
    re.IGNORECASE,
)
_REACH = 8
_MOST_BETWEEN = 4


def answers_the_verb(said: Sequence[Word], span: Span, question: str) -> bool:
    """Whether the mention at `span` is the agent, place or time of what the question asks about."""
    start, end = span
    sentence = said[start].sentence
    if _ASKS_WHO.search(question) and end < len(said) and said[end].sentence == sentence:
        follower = said[end + 1] if said[end].text.endswith("ly") and end + 1 < len(said) else said[end]
        if not follower.named and stem(follower.text) in verbs_of(question):
            return True
    lead = start - 1
    while lead >= 0 and start - lead <= _MOST_BETWEEN and said[lead].sentence == sentence and _leads_on(said[lead]):
        lead -= 1
    if lead < 0 or said[lead].sentence != sentence or start - lead > _MOST_BETWEEN:
        return False
    if said[lead].text == "by" and _ASKS_WHO.search(question):
        asked = verbs_of(question)
        before = said[max(0, lead - _REACH) : lead]
        return any(word.sentence == sentence and stem(word.text) in asked for word in before)
    return said[lead].text in _PLACING and bool(_ASKS_WHERE_OR_WHEN.search(question))


def _leads_on(word: Word) -> bool:
    """A word that may stand between "by" and the name: a title or a trade ("by the British actress X")."""
    return word.text in TITLES or (not word.named and word.text not in FUNCTION_WORDS)


@lru_cache(maxsize=4096)
def verbs_of(question: str) -> frozenset[str]:
    """The question's own words that may be verbs, as stems, with those of the same trade."""
    asked = {stem(word) for word in phrase(question) if word not in FUNCTION_WORDS | COPULAS}
    return frozenset(asked.union(*(trade for trade in _TRADES if trade & asked)))
