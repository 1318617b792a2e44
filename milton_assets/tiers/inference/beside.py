"""The inference tier beside the incumbent: short rounds of the model under test and of the one that serves, in turn.

    beside = measure_beside(endpoint, incumbent, plan, own)     # after the model's `own` figures were taken
    beside.log_ratios("ttft_ms.median")

What belongs here: how many and how large those rounds are, and making pairs of them. What does not: measuring in turn
(`tier.measure_interleaved`), serving the incumbent, and what the pairs show (`milton_assets.selection`).

The model's own figures are taken alone, before the incumbent is served: memory that a second model takes is charged to
nobody's figures. Both models answer the same prompts in a pair, drawn by the plan's seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from milton_assets.statistics.samples import mean_interval
from milton_assets.tiers.inference.calibrate import Calibration
from milton_assets.tiers.inference.definitions import BY_ROUND
from milton_assets.tiers.inference.plan import InferencePlan
from milton_assets.tiers.inference.tier import measure_interleaved
from milton_assets.vocabulary.beside import ROUNDS, Beside, RoundPair, log_ratios_of
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Incumbent

BUDGET_SHARE: Final = 0.5
"""What the rounds of each of the two may take of the time budget of the model's own figures."""


def measure_beside(
    endpoint: Endpoint, incumbent: Incumbent, plan: InferencePlan, own: TierResult, *, on_progress: OnProgress = silent
) -> Beside:
    """Serve the incumbent and measure both in turn, by the client whose calibration is the `own` figures'.

    What keeps that from happening, or ends it, is said in the answer and is no exception: the model's own figures
    stand without.
    """
    told = {"version": incumbent.weights.version, "artefact_sha256": incumbent.weights.sha256}
    try:
        with incumbent.serve() as there:
            mine, theirs = measure_interleaved(
                [endpoint, there.endpoint],
                in_turn(plan),
                on_progress=on_progress,
                together=True,
                calibration=Calibration.stated(own.provenance),
            )
    except (MiltonError, OSError) as error:
        return Beside(**told, because=error.problem if isinstance(error, MiltonError) else str(error))
    return Beside(**told, rounds=pairs_of(mine, theirs), unsound=dict(_unsound(mine, theirs)))


def in_turn(plan: InferencePlan) -> InferencePlan:
    """The plan of the rounds in turn: one request a round, or as many as are in flight at once, and no end for having
    been precise.
    """
    return plan.model_copy(
        update={
            "requests_per_round": plan.concurrency or 1,
            "min_rounds": ROUNDS,
            "max_rounds": ROUNDS,
            "budget_s": None if plan.budget_s is None else plan.budget_s * BUDGET_SHARE,
        }
    )


@dataclass
class Followed:
    """Progress of the model's own figures and then of the rounds in turn, as one: `listener` hears the former, `after`
    the latter, and it is at its end after `end` only."""

    on_progress: OnProgress
    plan: InferencePlan
    done: int = 0

    def listener(self, step: Progress) -> None:
        """Hears of the model's own figures."""
        self.done = step.done
        turns = in_turn(self.plan)
        self.on_progress(replace(step, total=step.total + ROUNDS * turns.round_size))

    def after(self, step: Progress) -> None:
        """Hears of the rounds in turn."""
        done = self.done + step.done
        self.on_progress(replace(step, done=done, total=max(self.done + step.total, done + 1)))

    def end(self, beside: Beside) -> None:
        """Nothing follows."""
        note = f"not beside {beside.version}: {beside.because}" if beside.because else f"beside {beside.version}"
        self.on_progress(Progress("inference", self.done, self.done, note))


def pairs_of(mine: TierResult, theirs: TierResult) -> tuple[RoundPair, ...]:
    """The rounds of two servers that were measured in turn, each with its neighbour."""
    both = zip(mine.provenance["by_round"], theirs.provenance["by_round"], strict=False)
    return tuple(RoundPair(mine=one, theirs=other) for one, other in both)


@dataclass(frozen=True)
class Ratio:
    """One server's figure over another's, over `rounds` rounds in turn: the geometric mean, and its 95 % interval."""

    value: float
    low: float
    high: float
    rounds: int


def ratios(mine: TierResult, theirs: TierResult) -> dict[str, Ratio]:
    """For each figure of `BY_ROUND`, mine over theirs, of two servers that were measured in turn.

    The interval holds what the rounds scatter by, not what the two servers would differ by if they were started anew. A
    figure that one of the two cannot be relied on, or that too few rounds have, is not among them.
    """
    rounds, unsound = pairs_of(mine, theirs), dict(_unsound(mine, theirs))
    found = {}
    for name in BY_ROUND:
        logs = () if name in unsound else log_ratios_of(rounds, name)
        values = np.array(logs)
        if (interval := mean_interval(values)) is not None:
            low, value, high = np.exp([interval.low, values.mean(), interval.high]).tolist()
            found[name] = Ratio(value, low, high, len(logs))
    return found


def _unsound(mine: TierResult, theirs: TierResult) -> Iterator[tuple[str, str]]:
    """The metrics of which one of the two cannot be relied on, with why."""
    for name in BY_ROUND:
        wanting = [metric.why for metric in (mine.metric(name), theirs.metric(name)) if not metric.valid and metric.why]
        if wanting:
            yield name, "; ".join(dict.fromkeys(wanting))
