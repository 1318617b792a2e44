"""The inference tier with a load curve: the headline figures one at a time, then the same under rising concurrency.

    result = measure_with_sweep(endpoint, plan, levels=levels_up_to(slots))
    sweep_of(result).points

What belongs here: joining the two measurements in one result, and reading the curve back from a stored one. What does
not: measuring one load (`tier`), choosing when a server is saturated (`sweep`), and drawing (`plots`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from milton_assets.tiers.inference.orders import OpenClient
from milton_assets.tiers.inference.plan import ClosedLoad, InferencePlan
from milton_assets.tiers.inference.sweep import Sweep, point_of, sweep
from milton_assets.tiers.inference.tier import measure_inference
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.tier import TierResult

BUDGET_SHARE: Final = 0.2
"""What each load of the curve may take of the headline measurement's time budget."""

_BEYOND_SLOTS: Final = 4
_KEY: Final = "sweep"
_SWEEP: Final = TypeAdapter(Sweep)


def levels_up_to(slots: int) -> tuple[int, ...]:
    """The concurrencies of the curve beyond one: doubling, to four times the server's slots, where it must queue."""
    levels = [2]
    while levels[-1] < _BEYOND_SLOTS * slots:
        levels.append(2 * levels[-1])
    return tuple(levels)


def measure_with_sweep(
    endpoint: Endpoint,
    plan: InferencePlan,
    *,
    levels: Sequence[int],
    on_progress: OnProgress = silent,
    open_client: OpenClient | None = None,
) -> TierResult:
    """Measure the plan, then a sweep over `levels`, whose points are kept in the provenance under `sweep`.

    Every metric of the result is the plan's own. The curve begins with the plan's load; a server that answered nothing
    under it is asked no more. Raises `BadInput` when the plan's load is not closed, or `levels` are not above it.
    """
    if not isinstance(plan.load, ClosedLoad) or not levels or min(levels) <= plan.load.concurrency:
        raise BadInput(
            f"a curve over {list(levels)} from {plan.load.model_dump()}",
            expected="a closed load, and concurrencies above it",
        )
    rounds = [under(plan, level).round_size for level in levels]
    seen = _Counted(on_progress)
    listener = seen.listener(still_to_come=sum(rounds))
    result = measure_inference(endpoint, plan, on_progress=listener, open_client=open_client)
    head = point_of(plan.load, result)
    if not head.success_rate.value:
        curve = Sweep((head,), f"at {head.label}: no request succeeded")
    else:
        first = under(plan, levels[0])
        listener = seen.listener(still_to_come=0)
        swept = sweep(endpoint, first, levels=levels, on_progress=listener, open_client=open_client)
        curve = Sweep((head, *swept.points), swept.stop_reason)
    seen.end(curve.stop_reason)
    return replace(result, provenance={**result.provenance, _KEY: _SWEEP.dump_python(curve, mode="json")})


def under(plan: InferencePlan, concurrency: int) -> InferencePlan:
    """The plan under another concurrency and with its share of the budget."""
    changes = {
        "load": ClosedLoad(concurrency=concurrency),
        "budget_s": None if plan.budget_s is None else plan.budget_s * BUDGET_SHARE,
        "min_rounds": 1,
    }
    return plan.model_copy(update=changes)


def sweep_of(result: TierResult) -> Sweep | None:
    """The curve that a stored result holds; None when it has none. Raises `BadInput` when it does not read."""
    stored: Mapping[str, Any] | None = result.provenance.get(_KEY)
    if stored is None:
        return None
    try:
        return _SWEEP.validate_python(stored)
    except ValidationError as error:
        raise BadInput(
            f"the stored sweep does not read: {error.errors()[0]['msg']}", expected="one that this release wrote"
        ) from error


class _Counted:
    """Progress of several measurements as one: what is done adds up, and what is still to come is in the total."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._before = self._done = 0
        self._last: Progress | None = None

    def listener(self, *, still_to_come: int) -> OnProgress:
        def listen(step: Progress) -> None:
            if self._last is not None and step.done <= self._last.done:
                self._before = self._done
            self._last = step
            self._done = self._before + step.done
            # Never at its end before `end`: the sweep says only then that there will be no further load.
            total = max(self._before + step.total + still_to_come, self._done + 1)
            self._on_progress(replace(step, done=self._done, total=total))

        return listen

    def end(self, note: str) -> None:
        if self._last is not None:
            self._on_progress(Progress(self._last.stage, self._done, self._done, note))
