"""What a model expects next, place by place, while a given text is put into its mouth (teacher forcing).

What belongs here: those expectations as nouns, and the protocol of whoever can be asked for them. What does not: asking
a server (`resources.servers.forcing`) and what two models' expectations have to do with each other
(`milton_assets.tiers.fidelity`).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Protocol

from milton_assets.vocabulary.errors import BadInput

_ROUNDING = 1e-3
"""Probabilities come as single-precision logarithms: their sum may be above 1 by so much."""


@dataclass(frozen=True)
class Expectation:
    """What the model expected at one place of a text.

    `token` is the text's own token there and `logprob` the natural logarithm of its probability; `top` are the
    likeliest tokens with theirs, likeliest first. All are over the whole vocabulary, before any sampling. Raises
    `BadInput` for what is no such thing: no likeliest token, a probability that is none, a token twice, a wrong order.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        if not self.top:
            raise BadInput("a place has no likeliest token", expected="at least one")
        listed = [logprob for _, logprob in self.top]
        if not all(math.isfinite(p) and p <= _ROUNDING for p in (self.logprob, *listed)):
            raise BadInput(
                f"a place has the logarithms {[self.logprob, *listed][:5]} of probabilities", expected="numbers up to 0"
            )
        if len({token for token, _ in self.top}) != len(self.top):
            raise BadInput("a place lists a token twice", expected="each of the likeliest tokens once")
        if any(later > earlier + _ROUNDING for earlier, later in itertools.pairwise(listed)):
            raise BadInput("a place lists its likeliest tokens in no order", expected="the likeliest first")
        if math.fsum(map(math.exp, listed)) > 1 + _ROUNDING:
            raise BadInput("the probabilities of a place sum to more than 1", expected="1 at most")


@dataclass(frozen=True)
class Forced:
    """One text, read token by token. `tokens` is the whole text as the model reads it, `places` what it expected at
    consecutive ones of them, from `first` on; None where the server does not tell, which depends on the token alone."""

    tokens: tuple[int, ...]
    first: int
    places: tuple[Expectation | None, ...]

    def __post_init__(self) -> None:
        there = self.tokens[self.first : self.first + len(self.places)]
        read = tuple(token if place is None else place.token for token, place in zip(there, self.places, strict=False))
        if len(self.places) > len(there) or there != read:
            raise BadInput("the places hold other tokens than the text", expected="the text's own, one after another")


class TeacherForcing(Protocol):
    """A model that can be asked what it expects at each place of a text."""

    def forced(self, text: str, *, first: int, places: int, top: int) -> Forced:
        """What it expects at up to `places` places of `text`, from the token numbered `first` (from 0, at least 1) on.

        At each the `top` likeliest tokens are told. Raises `ModelCallFailed`.
        """
        ...


class ReferenceNotToBeHad(BadInput):
    """The model that another is to be compared with cannot be asked here."""
