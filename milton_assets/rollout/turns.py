"""When a rollout is to be gone on with, where nobody stays with it: the graph runs it a turn at a time.

    due = next_turn(state, last_turn, now)

What belongs here: the time from which another turn can do something. What does not: what a turn does (`running`), and
who begins it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from milton_assets.rollout.states import Phase, Rollout, Stage

BETWEEN = timedelta(minutes=10)
"""So long after a turn that left only devices that are away these are asked again, at the soonest."""


def next_turn(state: Rollout, last_turn: datetime | None, now: datetime) -> datetime | None:
    """From when on another turn can do something; `now` or earlier: at once. None where nothing happens without a
    person, or nothing is left to do. `last_turn` is when the last one ended, None for none.

    Devices that are away are asked again `BETWEEN` turns, later by a tenth of the time that they have been away, and
    once more at their deadline.
    """
    if state.stage is Stage.PLANNED or (state.stage in {Stage.RUNNING, Stage.ABORTING} and state.changing):
        return state.last_at
    if state.stage is Stage.ABORTING:
        is_first = last_turn is None or (state.aborted_at is not None and last_turn < state.aborted_at)
        return state.last_at if is_first or not state.to_go_back or last_turn is None else last_turn + BETWEEN
    if state.stage is not Stage.RUNNING:
        return None
    if (frozen := state.plan.frozen_until(now)) is not None:
        return frozen
    return min(_of_devices(state, last_turn), default=state.last_at)


def _of_devices(state: Rollout, last_turn: datetime | None) -> Iterator[datetime]:
    """When each device that may begin is to be asked."""
    for device in state.each():
        if not state.may_begin(device):
            continue
        if device.phase is Phase.OFFLINE:
            asked = max(device.since, last_turn or device.since)
            deadline = device.since + timedelta(seconds=state.plan.reach_within_s)
            yield max(asked, min(asked + max(BETWEEN, (asked - device.since) / 10), deadline))
        else:
            yield max(state.last_at, device.not_before or state.last_at)
