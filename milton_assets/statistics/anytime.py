"""Comparing two arms while their requests come, looked at after every one, with both errors stated.

    bets = events_by_arm(share=0.1)
    bets.log_evidence((challenger_errors, incumbent_errors))     # math.log(20): at most 1 in 20, ever, by chance

What belongs here: evidence as a function of counts, for what a comparison of two arms asks. What does not: what counts
as an error, and what is done about it (`milton_assets.edge.canary`). No numpy: devices run this.

Each kind of evidence is the wealth of a gambler who bets on every outcome before it is known, and whose bets are fair,
or worse than that, under the hypothesis that they speak against. Wealth that begins at 1 then ever reaches 1 / a with
a probability of at most a (Ville, 1939), whatever the number of looks: an e-process. An outcome here is one of a few
kinds, and a bet pays a fixed factor for each, so wealth depends on counts alone; several bets are held at once, with
shares of the wealth (`Bets`). No moments, no burn-in, no limit theorem: every bound is exact.

Two of them (`events_by_arm`, `difference_below`) rest on nothing but the draw of the arms: which arm a request goes
to was drawn with a known probability, so an event that the arm has no part in falls to the challenger with just that
probability, however load, users and error rates move meanwhile. `more_often_than_not` rests on the draw too where it is
given pairs of requests that arrived one after the other. `rate_above` needs a rate that holds given what came before.

Where both arms were asked the very same (`paired_difference_below`, signs again), a pair is an outcome whose chances,
given those before it, the hypothesis bounds.

Sources: Ramdas, Grünwald, Vovk, Shafer (2023), "Game-theoretic statistics and safe anytime-valid inference";
Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from milton_assets.vocabulary.errors import BadInput


@dataclass(frozen=True)
class Bets:
    """Bets that are held at once. `outcomes` names the kinds of outcomes; `log_factors[k][j]` is the logarithm of what
    bet k multiplies its part of the wealth by when outcome j happens; `shares` are the parts, which sum to 1.
    """

    outcomes: tuple[str, ...]
    log_factors: tuple[tuple[float, ...], ...]
    shares: tuple[float, ...]

    def log_evidence(self, counts: Sequence[int]) -> float:
        """The logarithm of the wealth after so many of each outcome. Raises `BadInput` for counts that are none."""
        if len(counts) != len(self.outcomes) or min(counts) < 0:
            raise BadInput(f"the counts {tuple(counts)}", expected=f"a count for each of {', '.join(self.outcomes)}")
        parts = [
            math.log(share) + math.fsum(count * factor for count, factor in zip(counts, factors, strict=True))
            for share, factors in zip(self.shares, self.log_factors, strict=True)
        ]
        most = max(parts)
        return most + math.log(math.fsum(math.exp(part - most) for part in parts))


_ODDS = ((10.0, 0.6), (3.0, 0.4))
_RATES_OVER_LIMIT = ((5.0, 0.9), (2.0, 0.1))
_SIGNS = (0.6, 0.75, 0.95)
_BOLDNESS = (0.25, 0.5, 0.9)


def events_by_arm(share: float) -> Bets:
    """Against "the challenger has no more such events than the incumbent". Outcomes: an event of either arm.

    `share` is the probability with which a request was given to the challenger. Under the hypothesis an event is the
    challenger's with at most that probability; the bets are those for odds that are ten and three times as high.
    """
    _check_share(share)
    expected = [(odds * share / (odds * share + 1 - share), part) for odds, part in _ODDS]
    return Bets(
        ("the challenger's", "the incumbent's"),
        tuple((math.log(q / share), math.log((1 - q) / (1 - share))) for q, _ in expected),
        tuple(part for _, part in expected),
    )


def rate_above(limit: float) -> Bets:
    """Against "each trial fails with a probability of at most `limit`, given what came before". Outcomes: a failure,
    a success. The bets are those for five times the limit and for twice as much.
    """
    if not 0 < limit < 0.5:
        raise BadInput(f"a limit of {limit:g} on a failure rate", expected="a share above 0 and below 0.5")
    # Far beyond a high limit there is no room for five times as much: then half of the room that there is.
    rates = [(min(times * limit, (1 + limit) / 2), part) for times, part in _RATES_OVER_LIMIT]
    return Bets(
        ("failed", "well"),
        tuple((math.log(rate / limit), math.log((1 - rate) / (1 - limit))) for rate, _ in rates),
        tuple(part for _, part in rates),
    )


def more_often_than_not() -> Bets:
    """Against "it happens with a probability of at most one half, given what came before". Outcomes: yes, no.

    Given the signs of a quantity's differences in pairs, this is the sign test, which asks nothing of the quantity but
    an order; a tie is no outcome.
    """
    return Bets(
        ("yes", "no"),
        tuple((math.log(2 * p), math.log(2 * (1 - p))) for p in _SIGNS),
        tuple(1 / len(_SIGNS) for _ in _SIGNS),
    )


def difference_below(margin: float, share: float) -> Bets:
    """Against "the challenger fails more often than the incumbent, by `margin` or more" (a difference of shares).

    Outcomes: a request that went well, a failure of the challenger, one of the incumbent. Weighted by how probable its
    arm was, a failure (1 / share, or -1 / (1 - share)) has the difference of the two rates as its mean, request by
    request; the bets are on that mean being below `margin`.
    """
    _check_share(share)
    if not 0 < margin < 1:
        raise BadInput(f"a margin of {margin:g} for a difference of shares", expected="a share above 0 and below 1")
    boldest = 1 / (1 / share - margin)
    table = []
    for boldness in _BOLDNESS:
        stake = boldness * boldest
        factors = (1 + stake * margin, 1 + stake * (margin - 1 / share), 1 + stake * (margin + 1 / (1 - share)))
        table.append(tuple(math.log(factor) for factor in factors))
    return Bets(
        ("well", "the challenger's failure", "the incumbent's failure"),
        tuple(table),
        tuple(1 / len(_BOLDNESS) for _ in _BOLDNESS),
    )


def paired_difference_below(margin: float) -> Bets:
    """The same where both arms were asked the same: outcomes are a pair that went alike, one in which only the
    challenger failed, and one in which only the incumbent did.
    """
    if not 0 < margin < 1:
        raise BadInput(f"a margin of {margin:g} for a difference of shares", expected="a share above 0 and below 1")
    stakes = [boldness / (1 - margin) for boldness in _BOLDNESS]
    return Bets(
        ("alike", "only the challenger failed", "only the incumbent failed"),
        tuple(tuple(math.log(1 + stake * (margin - worse)) for worse in (0, 1, -1)) for stake in stakes),
        tuple(1 / len(stakes) for _ in stakes),
    )


def needed(alpha: float) -> float:
    """The logarithm of the evidence that is reached by chance with a probability of at most `alpha`."""
    if not 0 < alpha < 1:
        raise BadInput(f"an error of {alpha:g}", expected="a probability above 0 and below 1")
    return -math.log(alpha)


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise BadInput(f"a share of {share:g} for the challenger", expected="a share above 0 and below 1")
