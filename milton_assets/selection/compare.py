"""Challengers against the incumbent: paired where cases can be paired, and corrected for looking many times.

What belongs here: which test is made of which figures. What does not: the tests (`milton_assets.statistics`), and what
follows from them (`decide`).

- Right or wrong, by case: McNemar's exact test; the interval of the difference is Agresti and Min's (2005), which
  stays honest when no case differs.
- A score by case: the paired bootstrap over cases (percentile interval, widened by sqrt(n / (n - 1))).
- Otherwise (latency, throughput): the difference against the standard errors of both figures, the noise between
  campaigns included; on a log scale where the margin is relative.

Intervals leave `alpha` outside on each side (90 % intervals for an alpha of 5 %), so that a lower end above the margin
is a one-sided test of non-inferiority at `alpha`. P-values are two-sided. Holm (1979) corrects them over every
challenger and metric of the decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from milton_assets.selection.decision import Challenge, Difference
from milton_assets.selection.policy import IncumbentRule, Margin, MarginKind
from milton_assets.selection.resample import Drawn
from milton_assets.selection.scoring import Array
from milton_assets.statistics.bootstrap import (
    drawn_counts,
    drawn_means,
    percentile_ends,
    stream,
    two_sided_p,
    widened,
)
from milton_assets.statistics.multiplicity import holm
from milton_assets.statistics.normal import z_leaving
from milton_assets.statistics.paired import agresti_min, mcnemar_exact
from milton_assets.vocabulary.metric import Direction, Interval

_BOOTSTRAP_FLOATS = 1 << 20


@dataclass(frozen=True)
class Compared:
    """One metric, the challengers against the incumbent: arrays (challengers,), oriented so that above 0 is better.

    NaN where nothing can be said. `wins` and `losses` count cases; -1 where there are none. `unpaired_because`
    is why cases that there could be are not paired, or empty.
    """

    test: npt.NDArray[np.object_]
    n: Array
    difference: Array
    low: Array
    high: Array
    p_value: Array
    wins: Array
    losses: Array
    unpaired_because: npt.NDArray[np.object_]


def challenge(
    prepared: Sequence[Drawn], rule: IncumbentRule, versions: Sequence[str], incumbent: int, *, draws: int, seed: int
) -> dict[str, Challenge]:
    """Compare every candidate of the pool with the one at index `incumbent`; by version, the incumbent left out."""
    challengers = np.array([i for i in range(len(versions)) if i != incumbent], dtype=np.intp)
    if not challengers.size:
        return {}
    by_metric = {drawn.criterion.key: drawn for drawn in prepared}
    rng = stream(seed)
    outside = 2 * rule.alpha
    compared = [
        _compare(by_metric[margin.key], margin, incumbent, challengers, outside=outside, draws=draws, rng=rng)
        for margin in rule.margins
    ]
    corrected = holm(np.stack([one.p_value for one in compared]))
    result = {}
    for place, index in enumerate(challengers.tolist()):
        differences = tuple(
            _difference(margin, one, place, float(corrected[row, place]), rule.alpha)
            for row, (margin, one) in enumerate(zip(rule.margins, compared, strict=True))
        )
        result[versions[index]] = _challenge(versions[incumbent], differences)
    return result


def _compare(
    drawn: Drawn,
    margin: Margin,
    incumbent: int,
    challengers: npt.NDArray[np.intp],
    *,
    outside: float,
    draws: int,
    rng: np.random.RandomState,
) -> Compared:
    sign = 1.0 if drawn.criterion.direction is Direction.HIGHER else -1.0
    by_errors = _by_errors(drawn, margin, incumbent, challengers, sign, outside)
    cases = drawn.cases
    pairs = cases.paired[challengers] & cases.paired[incumbent]
    if margin.kind is MarginKind.RELATIVE or not cases.by_case:
        return by_errors
    by_errors.unpaired_because[:] = [cases.why[incumbent] or cases.why[index] for index in challengers]
    if not pairs.any():
        return by_errors
    gains = sign * (cases.values[challengers[pairs]] - cases.values[incumbent])
    if np.isin(cases.values, (0.0, 1.0)).all():
        return _merged(by_errors, _by_discordance(gains, outside), pairs)
    return _merged(by_errors, _by_bootstrap(gains, outside, draws, rng), pairs)


def _merged(whole: Compared, part: Compared, where: npt.NDArray[np.bool_]) -> Compared:
    """`whole`, with `part` in the places where `where` is true."""
    for column in fields(Compared):
        getattr(whole, column.name)[where] = getattr(part, column.name)
    return whole


def _by_discordance(gains: Array, outside: float) -> Compared:
    cases = gains.shape[1]
    wins, losses = _won_and_lost(gains)
    low, high = agresti_min(wins, losses, cases, outside=outside)
    difference = (wins - losses) / cases
    # The interval is centred a little nearer to 0 than the difference; it must not exclude its own estimate.
    low, high = np.minimum(low, difference), np.maximum(high, difference)
    n = np.full(len(gains), float(cases))
    p_value = mcnemar_exact(wins, losses)
    return Compared(_named("McNemar, exact", n), n, difference, low, high, p_value, wins, losses, _named("", n))


def _by_bootstrap(gains: Array, outside: float, draws: int, rng: np.random.RandomState) -> Compared:
    challengers, cases = gains.shape
    counts = drawn_counts(rng, cases, draws)
    centre = gains.mean(axis=1)
    low, high, p_value = np.empty((3, challengers))
    step = max(1, _BOOTSTRAP_FLOATS // draws)
    for start in range(0, challengers, step):
        some = slice(start, start + step)
        drawn = widened(drawn_means(counts, gains[some].T), centre[some], cases)
        np.round(drawn, 12, out=drawn)
        low[some], high[some] = percentile_ends(drawn, outside=outside)
        p_value[some] = two_sided_p(drawn)
    wins, losses = _won_and_lost(gains)
    n = np.full(challengers, float(cases))
    return Compared(
        _named("paired bootstrap", n),
        n,
        np.round(centre, 9),
        np.round(low, 9),
        np.round(high, 9),
        p_value,
        wins,
        losses,
        _named("", n),
    )


def _won_and_lost(gains: Array) -> tuple[Array, Array]:
    return (gains > 0).sum(axis=1).astype(np.float64), (gains < 0).sum(axis=1).astype(np.float64)


def _by_errors(
    drawn: Drawn, margin: Margin, incumbent: int, challengers: npt.NDArray[np.intp], sign: float, outside: float
) -> Compared:
    mine, theirs = drawn.values[challengers], drawn.values[incumbent]
    errors, log = drawn.errors.standard_error, drawn.errors.log
    if margin.kind is MarginKind.RELATIVE:
        sound = log[challengers] & log[incumbent]
        gain = np.where(sound, sign * np.log(np.where(sound, mine, 1.0) / (theirs if log[incumbent] else 1.0)), np.nan)
        spread = np.hypot(errors[challengers], errors[incumbent])
    else:
        gain = sign * (mine - theirs)
        on_own_scale = np.where(log, errors * drawn.values, errors)
        spread = np.hypot(on_own_scale[challengers], on_own_scale[incumbent])
    half = z_leaving(outside) * spread
    # With no spread at all, any difference is one beyond noise.
    score = np.divide(np.abs(gain), spread, out=np.where(gain == 0, 0.0, np.inf), where=spread > 0)
    p_value: Array = np.where(np.isnan(gain) | np.isnan(spread), np.nan, 2 * ndtr(-score))
    bounds = (gain, gain - half, gain + half)
    if margin.kind is MarginKind.RELATIVE:
        bounds = (np.expm1(bounds[0]), np.expm1(bounds[1]), np.expm1(bounds[2]))
    difference, low, high = (np.round(bound, 9) + 0.0 for bound in bounds)
    n = np.zeros(len(challengers))
    return Compared(
        _named("beyond noise", n),
        n,
        difference,
        low,
        high,
        np.round(p_value, 12),
        np.full_like(n, -1),
        np.full_like(n, -1),
        _named("", n),
    )


def _difference(margin: Margin, compared: Compared, place: int, p_holm: float, alpha: float) -> Difference:
    difference, low, high = (float(part[place]) for part in (compared.difference, compared.low, compared.high))
    because = compared.unpaired_because[place]
    unpaired = f"; not paired by case: {because}" if because else ""
    if np.isnan(low) or np.isnan(difference):
        return Difference(
            tier=margin.tier,
            metric=margin.metric,
            test="none",
            kind=margin.kind,
            margin=margin.margin,
            n=0,
            non_inferior=False,
            superior=False,
            why=f"cannot be compared: no interval and no shared cases{unpaired}",
        )
    non_inferior = low >= -margin.margin
    superior = difference > 0 and p_holm < alpha
    worse = difference < 0 and p_holm < alpha
    words = "better" if superior else "worse" if worse else "no difference shown"
    limit = f"{margin.margin:.0%}" if margin.kind is MarginKind.RELATIVE else f"{margin.margin:g}"
    relation = "not more than" if non_inferior else "may be more than"
    wins = int(compared.wins[place])
    return Difference(
        tier=margin.tier,
        metric=margin.metric,
        test=str(compared.test[place]),
        kind=margin.kind,
        margin=margin.margin,
        n=int(compared.n[place]),
        wins=wins if wins >= 0 else None,
        losses=int(compared.losses[place]) if wins >= 0 else None,
        difference=difference,
        interval=Interval(low=low, high=high, level=1 - 2 * alpha, method=str(compared.test[place])),
        p_value=float(compared.p_value[place]),
        p_holm=p_holm,
        non_inferior=non_inferior,
        superior=superior,
        why=f"{words}; {relation} {limit} worse{unpaired}",
    )


def _challenge(incumbent: str, differences: tuple[Difference, ...]) -> Challenge:
    inferior = [one.metric for one in differences if not one.non_inferior]
    better = [one.metric for one in differences if one.superior]
    if inferior:
        why = f"it is not shown to be within the margin on {', '.join(inferior)}"
    elif better:
        why = f"it is better on {', '.join(better)} and within the margin on the rest"
    else:
        why = "it is within every margin, but shown to be better on nothing"
    return Challenge(incumbent=incumbent, replaces=bool(better) and not inferior, differences=differences, why=why)


def _named(test: str, like: Array) -> npt.NDArray[np.object_]:
    return np.full(like.shape, test, dtype=object)
