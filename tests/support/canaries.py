"""Many canaries at once, by numpy: the same bets as a device's, over simulated requests; and how one ended.

What belongs here: simulating and counting, and a canary as its device tells of it. What does not: what is claimed of it
(tests and benches).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from milton_assets.edge.canary.counts import ArmCounts, Counts
from milton_assets.edge.canary.plan import CanaryPlan, Margins
from milton_assets.edge.canary.starting import CanaryTold
from milton_assets.edge.canary.verdict import CanaryVerdict, judge, parts_of
from milton_assets.statistics.anytime import (
    Bets,
    difference_below,
    events_by_arm,
    more_often_than_not,
    needed,
    paired_difference_below,
    rate_above,
)

Numbers = NDArray[np.float64]
NEVER = np.iinfo(np.int64).max
QUESTIONS = 40


def log_evidence(bets: Bets, *counts: NDArray[np.int64]) -> Numbers:
    """`Bets.log_evidence` of many counts at once."""
    parts = [
        math.log(share) + sum(count * factor for count, factor in zip(counts, factors, strict=True))
        for share, factors in zip(bets.shares, bets.log_factors, strict=True)
    ]
    return np.asarray(np.logaddexp.reduce(parts, axis=0))


@dataclass(frozen=True)
class World:
    """What the two arms are like: failure rates, how many times slower the challenger is, the share of requests that
    are rated badly. Times are log-normal with `log_sd`, after a request's own difficulty with the same. `golden` is the
    share of requests that ask one of `QUESTIONS` golden questions, some far more often than others. Both know seven in
    ten of them: those they answer rightly nine times in ten, but for the share of these times that the challenger
    `forgets` it, and the others once in ten."""

    incumbent_fails: float = 0.01
    challenger_fails: float = 0.01
    slower: float = 1.0
    longer: float = 1.0
    incumbent_disliked: float = 0.02
    challenger_disliked: float = 0.02
    log_sd: float = 0.6
    golden: float = 0.0
    forgets: float = 0.0


@dataclass(frozen=True)
class Ends:
    """Of each run, the requests of the challenger until it went back and until it was promoted; `NEVER` where not."""

    went_back: NDArray[np.int64]
    promoted: NDArray[np.int64]


def simulate(
    world: World,
    *,
    runs: int,
    requests: int,
    share: float = 0.5,
    margins: Margins | None = None,
    alpha: float = 0.05,
    seed: int = 1,
) -> Ends:
    """Run so many canaries of so many requests each, judged after every request."""
    margins = margins or Margins()
    rng = np.random.default_rng(seed)
    shape = (runs, requests)
    ours = rng.random(shape) < share
    erred = rng.random(shape) < np.where(ours, world.challenger_fails, world.incumbent_fails)
    disliked = rng.random(shape) < np.where(ours, world.challenger_disliked, world.incumbent_disliked)
    n_ours = np.cumsum(ours, axis=1)
    by_arm, signs = events_by_arm(share), more_often_than_not()

    def counted(event: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.cumsum(event, axis=1)

    errors = counted(erred & ours), counted(erred & ~ours)
    against = {
        "failures": log_evidence(rate_above(margins.failures), errors[0], n_ours - errors[0]),
        "errors": log_evidence(by_arm, *errors),
        "feedback": log_evidence(by_arm, counted(disliked & ours), counted(disliked & ~ours)),
    }
    well = counted(~erred)
    within = {"errors": log_evidence(difference_below(margins.errors, share), well, *errors)}
    difficulty = rng.normal(0, world.log_sd, shape)
    for name, times, margin in (
        ("answer", world.slower, margins.slower),
        ("writing", world.slower, margins.slower),
        ("longer", world.longer, margins.longer),
        ("shorter", 1 / world.longer, margins.longer),
    ):
        value = difficulty + rng.normal(0, world.log_sd / 3, shape) + np.where(ours, math.log(times), 0.0)
        beyond, inside = _pairs(value, ours, erred, math.log(margin))
        against[name] = log_evidence(signs, beyond, inside)
        within[name] = log_evidence(signs, inside, beyond)
    if world.golden:
        beyond, inside, both = _marked_pairs(world, rng, ours, erred)
        against["goldens"] = log_evidence(signs, beyond, inside)
        within["goldens"] = log_evidence(paired_difference_below(margins.wrong), both, beyond, inside)
    parts = parts_of(goldens=world.golden > 0)
    goes_back = np.any([against[name] >= needed(alpha * part) for name, part in parts.items()], axis=0)
    promotes = np.all([evidence >= needed(alpha) for evidence in within.values()], axis=0)
    return Ends(_first(goes_back, n_ours), _first(promotes, n_ours))


def _pairs(
    value: Numbers, ours: NDArray[np.bool_], erred: NDArray[np.bool_], log_margin: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """After each request, how many pairs were beyond the margin, and within it."""
    even, odd = slice(0, None, 2), slice(1, None, 2)
    last = value.shape[1] // 2 * 2
    value, ours, erred = value[:, :last], ours[:, :last], erred[:, :last]
    counts = (ours[:, even] ^ ours[:, odd]) & ~erred[:, even] & ~erred[:, odd]
    difference = np.where(ours[:, even], value[:, even] - value[:, odd], value[:, odd] - value[:, even])
    sums = []
    for happened in (counts & (difference > log_margin), counts & (difference < log_margin)):
        spread = np.zeros_like(value, dtype=np.int64)
        spread[:, odd] = happened
        sums.append(np.cumsum(spread, axis=1))
    return sums[0], sums[1]


def _marked_pairs(
    world: World, rng: np.random.Generator, ours: NDArray[np.bool_], erred: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """After each request, in how many pairs of one golden question only the challenger was wrong, only the incumbent,
    and neither."""
    runs, requests = ours.shape
    knows = rng.random((runs, QUESTIONS)) < 0.7
    question = (QUESTIONS * rng.random(ours.shape) ** 2).astype(np.int64)
    rate_known = np.where(ours, 0.9 * (1 - world.forgets), 0.9)
    right = rng.random(ours.shape) < np.where(np.take_along_axis(knows, question, axis=1), rate_known, 0.1)
    question = np.where(rng.random(ours.shape) < world.golden, question, QUESTIONS)
    order = np.argsort(question, axis=1, kind="stable")
    asked, our, well, failed = (np.take_along_axis(one, order, axis=1) for one in (question, ours, right, erred))
    place = np.broadcast_to(np.arange(requests), asked.shape)
    begins = np.ones_like(our)
    begins[:, 1:] = asked[:, 1:] != asked[:, :-1]
    nth = place - np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    pair = np.zeros_like(our)
    pair[:, 1:] = (nth[:, 1:] % 2 == 1) & (our[:, 1:] ^ our[:, :-1]) & ~failed[:, 1:] & ~failed[:, :-1]
    pair &= asked < QUESTIONS
    before = np.roll(well, 1, axis=1)
    challenger, incumbent = np.where(our, well, before), np.where(our, before, well)
    sums = []
    for happened in (~challenger & incumbent, challenger & ~incumbent, challenger & incumbent):
        spread = np.zeros_like(our)
        np.put_along_axis(spread, order, pair & happened, axis=1)
        sums.append(np.cumsum(spread, axis=1))
    return sums[0], sums[1], sums[2]


def _first(reached: NDArray[np.bool_], n_ours: NDArray[np.int64]) -> NDArray[np.int64]:
    at = reached.argmax(axis=1)
    requests = n_ours[np.arange(len(at)), at]
    return np.where(reached.any(axis=1), requests, NEVER)


def canary_told(
    target: str,
    incumbent: str,
    *,
    incumbent_version: str = "served",
    challenger: str = "c" * 64,
    challenger_version: str = "newer",
) -> CanaryTold:
    """What a device tells of a canary whose challenger went back for its errors. The releases are digests."""
    plan = CanaryPlan(
        id="canary_20260111_142500_000_0a1b2c",
        target=target,
        challenger=challenger,
        challenger_version=challenger_version,
        challenger_manifest_sha256="d" * 64,
        incumbent=incumbent,
        incumbent_version=incumbent_version,
        share=0.5,
        seed="0" * 64,
        started_at=datetime(2026, 1, 11, 14, 25, tzinfo=UTC),
        actor="ada",
    )
    counts = Counts(
        challenger=ArmCounts(
            requests=40, erred=20, failed=20, units=40, first_erred=20, first_failed=20, units_erred=20
        ),
        incumbent=ArmCounts(requests=40, units=40),
    )
    judgement = judge(plan, counts)
    verdict = CanaryVerdict(
        canary=plan.id,
        outcome=judgement.outcome,
        reasons=judgement.reasons,
        counts=counts,
        journal_bytes=8000,
        journal_sha256="e" * 64,
        at=datetime(2026, 1, 11, 15, 0, tzinfo=UTC),
    )
    return CanaryTold(plan=plan, counts=counts, judgement=judgement, journal_sha256="e" * 64, verdict=verdict)
