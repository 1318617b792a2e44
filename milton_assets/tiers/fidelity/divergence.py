"""How far apart two models' expectations at one place are.

What belongs here: the formulas, of one place. What does not: summing over places (`figures`) and asking models.

A server tells the likeliest tokens only. So P, the reference's expectation, and Q, the model's, are compared over the
tokens that both list, and all others together are one more outcome. By the log-sum inequality, putting outcomes
together never raises a Kullback-Leibler divergence (Cover and Thomas, *Elements of Information Theory*, theorem 2.7.1):
what is computed is a **lower bound** of the divergence over the whole vocabulary, and exact where nothing is left over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from milton_assets.vocabulary.forcing import Expectation

_LEAST_LEFT = 1e-9
"""Less probability than this is what rounding leaves of nothing."""


@dataclass(frozen=True)
class Difference:
    """A model against its reference at one place.

    `kl` is the lower bound of KL(reference || model) in nats. `unlisted` is the reference's probability of all tokens
    that were put together. `flipped` says that another token is likeliest. `flip_loss` is how much less probable, by
    the reference, the model's likeliest token is than the reference's own: 0 without a flip, and a lower bound where
    the reference does not list that token.
    """

    kl: float
    unlisted: float
    flipped: bool
    flip_loss: float


def difference(reference: Expectation, model: Expectation) -> Difference:
    """The model's expectation at a place against the reference's at the same."""
    p, q = dict(reference.top), dict(model.top)
    shared = sorted(p.keys() & q.keys())
    kl = math.fsum(math.exp(p[token]) * (p[token] - q[token]) for token in shared)
    p_left = max(0.0, 1 - math.fsum(math.exp(p[token]) for token in shared))
    q_left = max(_LEAST_LEFT, 1 - math.fsum(math.exp(q[token]) for token in shared))
    if p_left > _LEAST_LEFT:
        kl += p_left * math.log(p_left / q_left)
    (first, surest), (mine, _) = reference.top[0], model.top[0]
    # A token that is not listed is at most as likely as the last one that is.
    its = p.get(mine, reference.top[-1][1])
    loss = max(0.0, math.exp(surest) - math.exp(its)) if mine != first else 0.0
    # Two expectations that are one may come out a hair below 0.
    return Difference(max(0.0, kl), p_left, mine != first, loss)
