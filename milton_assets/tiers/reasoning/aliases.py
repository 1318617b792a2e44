"""What an alias says besides the name: the forms of it that are looked for.

What belongs here: taking asides, titles, degrees, prepositions and alternatives off an alias. What does not: finding a
form in an answer (`naming`).
"""

from __future__ import annotations

import re
from functools import lru_cache

from milton_assets.tiers.reasoning.lexicon import FUNCTION_WORDS, TITLES
from milton_assets.tiers.reasoning.text import canonical, phrase

_ASIDE = re.compile(r"\s*\([^()]*\)")
_ACRONYM = re.compile(r"\(([A-Z][A-Z0-9]{1,5})\)")
_DESCRIBED = re.compile(r"(?:[\w'-]+ )*?([a-z]{3,}) ((?:[A-Z][\w'.-]+(?: [A-Z][\w'.-]*)+)|[A-Z][\w'-]{4,})")
_RELATIVE = re.compile(r",? (?:who|which|whose) ")
_LED_IN = re.compile(
    r"(?:in|on|at|by|from|during|between|around|circa|about|approximately|his|her|their|its|have|has)\b[ -]+(?:the )?"
    r"|(?:the )?(?:late|early|mid)\b[ -](?=.*\bcentury\b)",
    re.IGNORECASE,
)
_ALTERNATIVE = re.compile(r" or |\(accept |; ")
_DIGIT = re.compile(r"\d")
_TOLD_OF_IT = re.compile(r"(?<=\w) (?:period|season|era|origin|project)$")
_OF_A_MAKER = re.compile(r"([A-Z][^\s]*(?: [^\s]+){1,7}?) by (?:[Tt]he )?[A-Z][\w'.-]+(?: [A-Z][\w'.-]*){0,3}")
_OF_A_RANK = re.compile(r"(?:[Tt]he )?(?:Republic|Kingdom|State|Duchy|Commonwealth) of ([A-Z]\w+(?: [A-Z]\w+)*)")
_DATED = re.compile(r"(.*\b[A-Z]\w+) in \d{4}")
_OF_A_PLACE = re.compile(r"((?:[A-Z][\w'.-]+ ){1,3}[A-Z][\w'.-]+) of [A-Z][\w'.-]+")
_STATES = {
    "us": ("united states",), "usa": ("united states",), "uk": ("united kingdom",), "united states": ("US",),
    "united kingdom": ("UK", "Britain", "Great Britain"), "great britain": ("Britain",),
}  # fmt: skip
_DEGREES = frozenset({"jr", "sr", "mbe", "obe", "cbe", "phd"})


@lru_cache(maxsize=16384)
def forms(alias: str) -> tuple[str, ...]:
    """`alias`, and what is left of it without what only explains it: an aside in parentheses, a relative clause, a
    preposition or possessive before it, a title, a degree, the place that a person is of, who made it, that it is a
    republic, a noun that says what the rest is ("20-year period"); either half of "X or Y".
    """
    plain = canonical(alias).strip()
    found = [alias]
    without = _ASIDE.sub("", plain).strip()
    found += [without, _RELATIVE.split(without)[0]]
    found += (
        [half.strip(" ()") for half in _ALTERNATIVE.split(plain)]
        if _ALTERNATIVE.search(plain) and not _DIGIT.search(plain)
        else []
    )
    found += _ACRONYM.findall(plain)
    if (described := _DESCRIBED.fullmatch(without)) and described.group(1) not in FUNCTION_WORDS:
        found.append(described.group(2))
    led_in = _LED_IN.match(plain)
    if led_in:
        found.append(plain[led_in.end() :])
    found.append(_TOLD_OF_IT.sub("", without))
    for told in (_DATED, _OF_A_PLACE, _OF_A_MAKER, _OF_A_RANK):
        found += [match.group(1)] if (match := told.fullmatch(without)) else []
    found += _STATES.get(plain.casefold(), ())
    spelled = plain.split()
    while len(spelled) > 2 and phrase(spelled[0])[:1] and phrase(spelled[0])[0] in TITLES:
        spelled = spelled[1:]
    while len(spelled) > 2 and phrase(spelled[-1])[:1] and phrase(spelled[-1])[0] in _DEGREES:
        spelled = spelled[:-1]
    found.append(" ".join(spelled).strip(" ,"))
    return tuple(dict.fromkeys(form for form in found if form == alias or _says_something(form)))


def _says_something(form: str) -> bool:
    return form.isupper() or any(
        word not in FUNCTION_WORDS and (len(word) > 1 or word.isdigit()) for word in phrase(form)
    )
