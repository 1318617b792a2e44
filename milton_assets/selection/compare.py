"""Challengers against the incumbent: paired where cases can be paired, and corrected for looking many times.

What belongs here: which test is made of which figures. What does not: the tests (`milton_assets.statistics`), and what
follows from them (`decide`).

- Right or wrong, by case: McNemar's exact test; the interval of the difference is Agresti and Min's (2005), which
  stays honest when no case differs.
- A score by case: the paired bootstrap over cases (percentile interval, widened by sqrt(n / (n - 1))); the p-value is
  Student's, as draws cannot tell small ones apart.
- Where the margin is relative (latency, throughput): the mean difference over the campaigns in which both were measured
  as today, on a log scale, against the errors of one campaign's figures, by Student's t with as many degrees of freedom
  as the noise between campaigns is known with. More campaigns confirm a difference and do not narrow its error: what
  drifts slowly looks the same in each of them.
- Otherwise (quality without shared cases): the difference against the standard errors of both figures.

Intervals leave `alpha` outside on each side (90 % intervals for an alpha of 5 %), so that a lower end above the margin
is a one-sided test of non-inferiority at `alpha`. P-values are two-sided. What is compared with `alpha` is the p-value
of the last look over the share of alpha that this look might spend (`life`), corrected after Holm (1979) over every
challenger and metric of its group; of "it is no better" alone where the rule spends alpha on that (ADR 287).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from milton_assets.selection.decision import Challenge, Difference
from milton_assets.selection.in_turn import InTurn
from milton_assets.selection.life import NEW, Life, looked
from milton_assets.selection.policy import AssumedNoise, IncumbentRule, Margin, MarginKind, Superiority
from milton_assets.selection.resample import Drawn
from milton_assets.selection.scoring import Array
from milton_assets.statistics.bootstrap import (
    drawn_counts,
    drawn_means,
    percentile_ends,
    stream,
    widened,
)
from milton_assets.statistics.normal import z_leaving
from milton_assets.statistics.paired import agresti_min, mcnemar_exact
from milton_assets.statistics.spending import (
    ASSUMED_FREEDOM,
    LATER_LOOK,
    combined_freedom,
    mean_p,
    student_p,
    student_reach,
)
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.ledger import Tally
from milton_assets.vocabulary.metric import Direction, Interval

_BOOTSTRAP_FLOATS = 1 << 20


@dataclass(frozen=True)
class Compared:
    """One metric, the challengers against the incumbent: arrays (challengers,), oriented so that above 0 is better.

    NaN where nothing can be said. `wins` and `losses` count cases; -1 where there are none. `unpaired_because`
    is why cases that there could be are not paired, or empty. `gain` is what is summed over campaigns: the difference,
    or its logarithm where it is relative. `assumed` is whether its error rests on noise that nobody measured, `apart`
    whether that is noise between campaigns, as the two were not measured in turn.
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
    gain: Array
    assumed: npt.NDArray[np.bool_]
    apart: npt.NDArray[np.bool_]

    def rows(self) -> list[_Row]:
        """The same, a row a challenger."""
        columns = (getattr(self, name).tolist() for name in _Row._fields)
        return [_Row._make(row) for row in zip(*columns, strict=True)]


class _Row(NamedTuple):
    """What `Compared` says of one challenger, as plain numbers."""

    test: str
    n: float
    difference: float
    low: float
    high: float
    p_value: float
    wins: float
    losses: float
    unpaired_because: str


@dataclass(frozen=True)
class Challenged:
    """The challenges by version, and the tests behind them as the ledger keeps them, by version and `TIER/METRIC`."""

    challenges: dict[str, Challenge]
    tests: dict[str, dict[str, Tally]]


def challenge(
    prepared: Sequence[Drawn],
    rule: IncumbentRule,
    versions: Sequence[str],
    incumbent: int,
    *,
    draws: int,
    seed: int,
    life: Life,
    turns: Mapping[tuple[str, str], InTurn],
) -> Challenged:
    """Compare every candidate of the pool with the one at index `incumbent`, which is left out itself.

    `turns` are the pool's rounds in turn by the key of their criterion; a speed may lack there.
    """
    challengers = np.array([i for i in range(len(versions)) if i != incumbent], dtype=np.intp)
    if not challengers.size:
        return Challenged({}, {})
    others = [versions[index] for index in challengers.tolist()]
    by_metric = {drawn.criterion.key: drawn for drawn in prepared}
    rng = stream(seed)
    outside = 2 * rule.alpha
    compared: list[list[_Row]] = []
    tests: list[list[Tally]] = []
    for margin in rule.margins:
        drawn, (before, groups) = by_metric[margin.key], life.seen(margin, others)
        turned = _Turned.of(turns.get(margin.key), challengers, others, life)
        tables = life.pairs(margin.tier, versions[incumbent], others)
        evidence = turned.evidence(_evidence(drawn, challengers, incumbent, tables), margin, others, life)
        past = _Past.of(before, evidence)
        one = _compare(
            drawn, margin, incumbent, challengers, outside=outside, draws=draws, rng=rng, past=past, turned=turned
        )
        gains = one.gain if margin.kind is MarginKind.RELATIVE else one.difference
        compared.append(one.rows())
        p_values = _counted(one, gains, rule).tolist()
        tests.append([looked(*told) for told in zip(before, evidence, gains.tolist(), p_values, strict=True)])
    spent = np.array([[test.p_spent if test.seen else np.nan for test in row] for row in tests])
    better = np.array([[test.better for test in row] for row in tests])
    corrected = life.corrected(spent, better, groups, rule.superiority).tolist()
    per_metric = [
        _differences(margin, rows, tallies, p_values, rule.alpha)
        for margin, rows, tallies, p_values in zip(rule.margins, compared, tests, corrected, strict=True)
    ]
    result = {
        version: _challenge(versions[incumbent], differences)
        for version, *differences in zip(others, *per_metric, strict=True)
    }
    names = [f"{margin.tier}/{margin.metric}" for margin in rule.margins]
    kept = {
        version: {name: row[place] for name, row in zip(names, tests, strict=True) if row[place].seen}
        for place, version in enumerate(others)
    }
    return Challenged(result, kept)


def _counted(compared: Compared, gains: Array, rule: IncumbentRule) -> Array:
    """The p-values that count at a look. An assumption may be wrong, and of one campaign nobody knows whether something
    ran beside it: what rests on assumed noise spends of "better" what it spends of both sides (ADR 287), and between
    campaigns, where the next one measures it, what a later look may (ADR 293)."""
    times = np.ones(len(gains))
    if rule.superiority is Superiority.ONE_SIDED:
        times = np.where(compared.assumed, 2.0, times)
    if rule.assumed_noise is AssumedNoise.LATER_LOOK:
        times = np.where(compared.apart, LATER_LOOK, times)
    return np.where(gains > 0, np.minimum(times * compared.p_value, 1.0), compared.p_value)


@dataclass(frozen=True)
class Held:
    """Everybody against one figure, by the place in the pool."""

    margin: Margin
    compared: Sequence[_Row]
    places: Mapping[int, int]
    alpha: float

    def has(self, index: int) -> bool:
        """Whether the candidate at `index` was compared, which the figure's own was not."""
        return index in self.places

    def of(self, index: int) -> Difference:
        """The difference of the candidate at `index` from that figure; today's alone, and corrected for nothing."""
        one = self.compared[self.places[index]]
        tally = Tally(1, 0.0, one.p_value, one.difference > 0, "")
        return _difference(self.margin, one, tally, one.p_value, self.alpha)


@dataclass(frozen=True)
class Through:
    """Rounds in turn of everybody in a `Drawn` with one and the same incumbent, at `serving`: by them those are
    compared who were not measured beside each other, for what drifts cancels in each.

    `versions` are everybody's, and `life` knows how each was measured.
    """

    turns: InTurn
    versions: Sequence[str]
    serving: int
    life: Life

    def against(self, one: int, others: npt.NDArray[np.intp]) -> _Turned:
        """The `others` against the one at that index: both gains' errors are in theirs."""
        everybody = np.arange(len(self.versions), dtype=np.intp)
        with_incumbent = _Turned.of(self.turns, everybody, self.versions, self.life)
        with_incumbent.gain[self.serving], with_incumbent.error[self.serving] = 0.0, 0.0
        with_incumbent.freedom[self.serving] = with_incumbent.campaigns[self.serving] = 1.0
        found = _Turned.none(len(others))
        if not with_incumbent.here[one]:
            return found
        here = with_incumbent.here[others]
        some = others[here]
        error, of_one = with_incumbent.error[some], with_incumbent.error[one]
        found.gain[here] = with_incumbent.gain[some] - with_incumbent.gain[one]
        found.error[here] = np.hypot(error, of_one)
        freedom = with_incumbent.freedom
        found.freedom[here] = combined_freedom(found.error[here], error, freedom[some], freedom[one])
        found.campaigns[here] = 1.0
        return found


def held_to(
    drawn: Drawn,
    margin: Margin,
    anchor: int,
    rule: IncumbentRule,
    *,
    draws: int,
    seed: int,
    through: Through | None = None,
) -> Held:
    """Compare everybody in `drawn` with the figure at index `anchor`; `through` what serves, where there are rounds in
    turn with it."""
    others = np.array([i for i in range(len(drawn.values)) if i != anchor], dtype=np.intp)
    nothing = _Past.of([NEW] * len(others), [""] * len(others))
    compared = _compare(
        drawn,
        margin,
        anchor,
        others,
        outside=2 * rule.alpha,
        draws=draws,
        rng=stream(seed),
        past=nothing,
        turned=through.against(anchor, others) if through is not None else _Turned.none(len(others)),
    )
    return Held(margin, compared.rows(), {index: place for place, index in enumerate(others.tolist())}, rule.alpha)


@dataclass(frozen=True)
class _Past:
    """What earlier campaigns showed of each challenger: how many, and the sum of the gains, both (challengers,).

    `new` is whether this campaign's evidence is another than the last that counted.
    """

    seen: Array
    total: Array
    new: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, before: Sequence[Tally], evidence: Sequence[str]) -> _Past:
        new = [not one.seen or this not in ("", one.evidence) for one, this in zip(before, evidence, strict=True)]
        return cls(
            np.array([one.seen for one in before], dtype=np.float64),
            np.array([one.total for one in before], dtype=np.float64),
            np.array(new),
        )

    def mean(self, gain: Array) -> tuple[Array, Array]:
        """How many campaigns there are with this one, and the mean gain over them."""
        seen = self.seen + self.new
        return seen, np.where(self.new, (self.total + gain) / seen, self.total / np.maximum(self.seen, 1))


@dataclass(frozen=True)
class _Turned:
    """What rounds in turn show of each challenger: arrays (challengers,), NaN and 0 where there were none.

    `gain` is the logarithm of its figure over the incumbent's, `error` its standard error, known with `freedom`;
    `campaigns` is in how many such rounds were made; `assumed` whether nobody measured the noise of starts.
    """

    gain: Array
    error: Array
    freedom: Array
    campaigns: Array
    assumed: npt.NDArray[np.bool_]

    @classmethod
    def none(cls, count: int) -> _Turned:
        """Where nobody was measured in turn."""
        unknown, zero = np.full(count, np.nan), np.zeros(count)
        return cls(unknown, unknown.copy(), zero, zero.copy(), np.zeros(count, dtype=bool))

    @classmethod
    def of(
        cls, turns: InTurn | None, challengers: npt.NDArray[np.intp], versions: Sequence[str], life: Life
    ) -> _Turned:
        found = cls.none(len(versions))
        if turns is None:
            return found
        gains, own = turns.gain[challengers], turns.own[challengers]
        for place, known in enumerate(life.starts(turns.criterion, versions, gains)):
            if known is not None:
                noise, seen = known
                found.gain[place], found.campaigns[place] = gains[place], seen
                found.assumed[place] = not noise.freedom
                found.error[place], found.freedom[place] = noise.pooled(float(own[place])), noise.total_freedom
        here, rounds = found.here, turns.rounds[challengers]
        found.freedom[here] = combined_freedom(found.error[here], own[here], rounds[here] - 1, found.freedom[here])
        return found

    @property
    def here(self) -> npt.NDArray[np.bool_]:
        """Who was measured in turn."""
        return ~np.isnan(self.gain)

    def evidence(self, apart: Sequence[str], margin: Margin, versions: Sequence[str], life: Life) -> Sequence[str]:
        """`apart`, but the challenger's table alone for who was measured in turn: the rounds of both are in it."""
        return [
            sha256_bytes(life.tables.get((version, margin.tier), "").encode()) if here else table
            for version, table, here in zip(versions, apart, self.here.tolist(), strict=True)
        ]


def _evidence(drawn: Drawn, challengers: npt.NDArray[np.intp], incumbent: int, tables: Sequence[str]) -> Sequence[str]:
    """For each challenger the digest of its and the incumbent's paired cases: the same answers are the same evidence.

    Where they are not paired, that of their tables, which `tables` are.
    """
    cases = drawn.cases
    if not cases.by_case or not cases.paired[incumbent]:
        return tables
    theirs = cases.values[incumbent].tobytes()
    return [
        sha256_bytes(cases.values[index].tobytes() + theirs) if paired else table
        for index, paired, table in zip(challengers.tolist(), cases.paired[challengers].tolist(), tables, strict=True)
    ]


def _compare(
    drawn: Drawn,
    margin: Margin,
    incumbent: int,
    challengers: npt.NDArray[np.intp],
    *,
    outside: float,
    draws: int,
    rng: np.random.RandomState,
    past: _Past,
    turned: _Turned,
) -> Compared:
    sign = 1.0 if drawn.criterion.direction is Direction.HIGHER else -1.0
    if margin.kind is MarginKind.RELATIVE:
        return _over_campaigns(drawn, incumbent, challengers, sign, outside, past, turned)
    by_errors = _by_errors(drawn, incumbent, challengers, sign, outside)
    cases = drawn.cases
    pairs = cases.paired[challengers] & cases.paired[incumbent]
    if not cases.by_case:
        return by_errors
    by_errors.unpaired_because[:] = [cases.why[incumbent] or cases.why[index] for index in challengers]
    if not pairs.any():
        return by_errors
    gains = sign * (cases.values[challengers[pairs]] - cases.values[incumbent])
    binary = bool(np.isin(cases.values, (0.0, 1.0)).all())
    return _merged(by_errors, by_case(gains, binary=binary, outside=outside, draws=draws, rng=rng), pairs)


def by_case(gains: Array, *, binary: bool, outside: float, draws: int, rng: np.random.RandomState) -> Compared:
    """The comparison of paired cases: `gains` (challengers, cases), above 0 where the challenger is better.

    `binary`: a case is right or wrong. The interval leaves `outside` out in all.
    """
    return _by_discordance(gains, outside) if binary else _by_bootstrap(gains, outside, draws, rng)


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
    test, why, known = _named("McNemar, exact", n), _named("", n), np.zeros(len(n), dtype=bool)
    return Compared(test, n, difference, low, high, p_value, wins, losses, why, difference, known, known)


def _by_bootstrap(gains: Array, outside: float, draws: int, rng: np.random.RandomState) -> Compared:
    challengers, cases = gains.shape
    counts = drawn_counts(rng, cases, draws)
    centre = gains.mean(axis=1)
    low, high = np.empty((2, challengers))
    step = max(1, _BOOTSTRAP_FLOATS // draws)
    for start in range(0, challengers, step):
        some = slice(start, start + step)
        drawn = widened(drawn_means(counts, gains[some].T), centre[some], cases)
        np.round(drawn, 12, out=drawn)
        low[some], high[some] = percentile_ends(drawn, outside=outside)
    wins, losses = _won_and_lost(gains)
    n = np.full(challengers, float(cases))
    return Compared(
        _named("paired bootstrap", n),
        n,
        np.round(centre, 9),
        np.round(low, 9),
        np.round(high, 9),
        mean_p(gains),
        wins,
        losses,
        _named("", n),
        centre,
        np.zeros(challengers, dtype=bool),
        np.zeros(challengers, dtype=bool),
    )


def _won_and_lost(gains: Array) -> tuple[Array, Array]:
    return (gains > 0).sum(axis=1).astype(np.float64), (gains < 0).sum(axis=1).astype(np.float64)


def _over_campaigns(
    drawn: Drawn,
    incumbent: int,
    challengers: npt.NDArray[np.intp],
    sign: float,
    outside: float,
    past: _Past,
    turned: _Turned,
) -> Compared:
    mine, theirs = drawn.values[challengers], drawn.values[incumbent]
    errors = drawn.errors
    sound = errors.log[challengers] & errors.log[incumbent]
    now = np.where(
        sound, sign * np.log(np.where(sound, mine, 1.0) / (theirs if errors.log[incumbent] else 1.0)), np.nan
    )
    here = turned.here
    campaigns, gain = past.mean(np.where(here, sign * turned.gain, now))
    apart = np.hypot(errors.standard_error[challengers], errors.standard_error[incumbent])
    freedom = np.minimum(errors.freedom[challengers], errors.freedom[incumbent])
    # Errors that look the same in every campaign do not average out: the mean's is the mean of theirs, at most.
    share = np.where(here, np.minimum(turned.campaigns, campaigns) / np.maximum(campaigns, 1), 0.0)
    spread = np.where(share == 1, turned.error, np.where(here, share * turned.error + (1 - share) * apart, apart))
    freedom = np.where(share == 1, turned.freedom, np.where(here, np.minimum(turned.freedom, freedom), freedom))
    alone = errors.freedom <= ASSUMED_FREEDOM
    between = (share < 1) & (alone[challengers] | alone[incumbent])
    assumed = turned.assumed | between
    half = student_reach(freedom, outside) * spread
    ratio = _ratio(gain, spread)
    p_value = np.where(np.isnan(gain) | np.isnan(spread), np.nan, student_p(ratio, freedom))
    difference, low, high = (_as_share(part) for part in (gain, gain - half, gain + half))
    none = np.full_like(campaigns, -1)
    test, why = _named("beyond noise", campaigns), _named("", campaigns)
    test[here] = "rounds in turn"
    return Compared(
        test,
        campaigns,
        difference,
        low,
        high,
        np.asarray(np.round(p_value, 15), dtype=np.float64),
        none,
        none.copy(),
        why,
        gain,
        assumed,
        between,
    )


def _as_share(logarithm: Array) -> Array:
    return np.asarray(np.round(np.expm1(logarithm), 9) + 0.0, dtype=np.float64)


def _ratio(gain: Array, spread: Array) -> Array:
    """The gain over its error; with no error at all, any difference is one beyond noise."""
    return np.divide(np.abs(gain), spread, out=np.where(gain == 0, 0.0, np.inf), where=spread > 0)


def _by_errors(
    drawn: Drawn, incumbent: int, challengers: npt.NDArray[np.intp], sign: float, outside: float
) -> Compared:
    mine, theirs = drawn.values[challengers], drawn.values[incumbent]
    errors, log = drawn.errors.standard_error, drawn.errors.log
    gain = sign * (mine - theirs)
    on_own_scale = np.where(log, errors * drawn.values, errors)
    spread = np.hypot(on_own_scale[challengers], on_own_scale[incumbent])
    half = z_leaving(outside) * spread
    p_value: Array = np.where(np.isnan(gain) | np.isnan(spread), np.nan, 2 * ndtr(-_ratio(gain, spread)))
    difference, low, high = (np.round(bound, 9) + 0.0 for bound in (gain, gain - half, gain + half))
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
        gain,
        np.zeros(len(n), dtype=bool),
        np.zeros(len(n), dtype=bool),
    )


def _differences(
    margin: Margin, rows: Sequence[_Row], tests: Sequence[Tally], p_values: Sequence[float], alpha: float
) -> list[Difference]:
    """Every challenger's. Where cases are counted, many have the same counts, and of those one is made."""
    known: dict[tuple[_Row, int, bool, float], Difference] = {}
    found = []
    for one, test, p_value in zip(rows, tests, p_values, strict=True):
        if one.wins < 0:
            found.append(_difference(margin, one, test, p_value, alpha))
            continue
        key = (one, test.seen, test.better, p_value)
        if (same := known.get(key)) is None:
            same = known[key] = _difference(margin, one, test, p_value, alpha)
        found.append(same)
    return found


def _difference(margin: Margin, one: _Row, test: Tally, p_holm: float, alpha: float) -> Difference:
    difference, low = one.difference, one.low
    unpaired = f"; not paired by case: {one.unpaired_because}" if one.unpaired_because else ""
    if math.isnan(low) or math.isnan(difference):
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
    # What the last look showed holds until the next, while today's figures point the same way.
    shown = p_holm < alpha and test.better == (difference > 0)
    superior, worse = shown and difference > 0, shown and difference < 0
    words = "better" if superior else "worse" if worse else "no difference shown"
    limit = f"{margin.margin:.0%}" if margin.kind is MarginKind.RELATIVE else f"{margin.margin:g}"
    relation = "not more than" if non_inferior else "may be more than"
    counted = one.wins >= 0
    return Difference(
        tier=margin.tier,
        metric=margin.metric,
        test=one.test,
        kind=margin.kind,
        margin=margin.margin,
        n=int(one.n),
        wins=int(one.wins) if counted else None,
        losses=int(one.losses) if counted else None,
        difference=difference,
        interval=Interval(low=low, high=one.high, level=1 - 2 * alpha, method=one.test),
        p_value=one.p_value,
        p_holm=p_holm,
        looks=test.seen,
        non_inferior=non_inferior,
        superior=superior,
        worse=worse,
        why=f"{words}; {relation} {limit} worse{unpaired}",
    )


def _challenge(incumbent: str, differences: Sequence[Difference]) -> Challenge:
    inferior = [one.metric for one in differences if not one.non_inferior]
    better = [one.metric for one in differences if one.superior]
    if inferior:
        why = f"it is not shown to be within the margin on {', '.join(inferior)}"
    elif better:
        why = f"it is better on {', '.join(better)} and within the margin on the rest"
    else:
        why = "it is within every margin, but shown to be better on nothing"
    replaces = bool(better) and not inferior
    outdoes = replaces and not any(one.worse for one in differences)
    return Challenge(incumbent=incumbent, replaces=replaces, outdoes=outdoes, differences=tuple(differences), why=why)


def _named(test: str, like: Array) -> npt.NDArray[np.object_]:
    return np.full(like.shape, test, dtype=object)
