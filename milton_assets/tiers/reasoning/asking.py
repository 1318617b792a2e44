"""How much a question asks for: one thing, several, or it does not say.

What belongs here: reading the question's own words. What does not: reading answers (`candidates`, `naming`).

"What is the capital?" asks for one, "What are the parts?" and "Name two fibres" for several, "Who wrote it?" and "Where
is it sold?" leave it open: more than one may be right. The difference decides what a list of names is: the answer, or
an evasion.
"""

from __future__ import annotations

import re
from functools import lru_cache

from milton_assets.tiers.reasoning.numerals import SMALL

_NUMERAL = "|".join(word for word, value in SMALL.items() if value > 1)
_PLURAL = r"(?!(?:does|is|was|has|this|us|yes|gas)\b)[a-z]+(?<![sui'])s"
_SEVERAL = re.compile(
    rf"\b(?:who|what|which|where) (?:are|were)\b(?! (?:you|we|they|said)\b)"
    rf"|^(?:please )?(?:list|name|all|names|different) (?:of |the )*(?:[a-z]+ ){{0,2}}?{_PLURAL}\b"
    rf"|\b(?:what|which|name|list|give) (?:the )?(?:{_NUMERAL}|[2-9]|1\d) (?:[a-z]+ ){{0,3}}?{_PLURAL}\b"
    rf"|\b(?:what|which) (?:[a-z]+ ){{0,2}}?{_PLURAL} (?:are|were|do|did|have|had|can|could|will|would|make|border)\b"
    rf"|\bwhat (?:kinds|types|sorts|(?:kind|type|sort) of [a-z]+) (?:of|are|were|do|did|have|live|grow)\b"
    rf"|^(?:the )?(?:cast|types|kinds|members) of\b|\bcast$",
    re.IGNORECASE,
)
_ONE = re.compile(
    r"\b(?:what|which|who|whom)(?:'s| is| was)\b|\bwhen\b"
    r"|\b(?:what|which)\b(?! (?:do|does|did|happen|happened|can|made)\b)"
    r"|\bhow (?:many|much|long|far|old|tall|high|big|fast)\b",
    re.IGNORECASE,
)
_OPEN = re.compile(r"\b(?:who|where|why|how|what)\b", re.IGNORECASE)
_PLACE = re.compile(
    r"\b(?:where|(?:which|what) (?:city|town|place|country|state|county|village|venue))\b", re.IGNORECASE
)


@lru_cache(maxsize=4096)
def asks_for_several(question: str) -> bool:
    """Whether the question asks for more than one thing, in so many words."""
    return bool(_SEVERAL.search(question))


@lru_cache(maxsize=4096)
def leaves_the_number_open(question: str) -> bool:
    """Whether one thing or several may answer: "Who wrote it?", "Where is it sold?", "What do koalas eat?"."""
    return not _ONE.search(question) and bool(_OPEN.search(question))


@lru_cache(maxsize=4096)
def asks_for_a_place(question: str) -> bool:
    """Whether a place answers, which may be told with the larger place that it lies in."""
    return bool(_PLACE.search(question))
