"""Plans of rollouts over simulated devices, and what has to hold at every instant of one.

What belongs here: making plans, and the invariants. What does not: the simulation (`milton_assets.rollout.simulate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from milton_assets.rollout.plan import Gate, Member, Opens, Plan
from milton_assets.rollout.planning import in_order, waves_of
from milton_assets.rollout.simulate import Fleet, Kept, Rates, release_named, simulate
from milton_assets.rollout.states import Device, Phase, Rollout, Stage

WIDE = Gate(tolerable=0.1, intolerable=0.4)
"""A gate that a few devices satisfy."""


def plan_of(
    devices: int,
    *,
    waves: Sequence[str] = ("1", "rest"),
    gate: Gate = WIDE,
    opens: Opens | None = None,
    labels: Sequence[str] = ("local",),
    **more: Any,
) -> Plan:
    """A plan for so many devices, whose labels take turns."""
    members = [Member(name=f"d{n}", labels=frozenset({labels[n % len(labels)]})) for n in range(devices)]
    return Plan(
        rollout="spring",
        release=release_named("v2").digest,
        model_version="v2",
        run_id="benchmark_20260111_142500",
        bundle="bundles/v2",
        members=in_order(members, "spring"),
        waves=waves_of(waves, members, gate, opens),
        gate=gate,
        **more,
    )


class Watch:
    """Holds the invariants of a rollout against the fleet itself, at every tick; of a large fleet, at every so many."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._every = max(1, len(fleet.devices) // 50)
        self._ticks = 0
        self.ever: set[str] = set()
        self.most_at_once = 0

    def __call__(self, state: Rollout) -> None:
        self.most_at_once = max(self.most_at_once, state.changing)
        assert state.changing <= state.plan.at_once
        self._ticks += 1
        if self._ticks % self._every:
            return
        serving = self.fleet.serving_the_release()
        self.ever |= serving
        had_it = {device.name for device in state.each() if device.phase is Phase.HAD_IT}
        # Who serves the release is known to do so, and no more do than the waves opened so far allow.
        assert serving - had_it <= {device.name for device in state.exposed()}
        assert len(self.ever - had_it) <= state.begun <= state.exposure_bound
        for device in self.fleet.devices.values():
            assert device.serving() in device.state.releases or device.state.in_flight  # whole, never nothing
            assert device.serving() is not None


def simulated(
    plan: Plan, rates: Rates, *, seed: int = 1, journal: Kept | None = None, watch: bool = True
) -> tuple[Kept, Fleet, Watch]:
    """The rollout of that plan, watched at every tick."""
    fleet = Fleet(plan, rates, seed=seed)
    watched = Watch(fleet)
    return simulate(fleet, journal, on_tick=watched if watch else None), fleet, watched


def check_ends(state: Rollout, fleet: Fleet) -> None:
    """Nothing is lost, and every device's end is explained by what it serves."""
    assert {device.name for device in state.each()} == set(fleet.devices)
    for device in state.each():
        _check_end(state, device, serves=fleet.devices[device.name].serving() == state.plan.release)


def _check_end(state: Rollout, device: Device, *, serves: bool) -> None:
    if state.stage in {Stage.DONE, Stage.ABORTED}:
        assert device.phase not in {Phase.BEGUN, Phase.GOING_BACK}, device
    if state.stage is Stage.DONE and (state.plan.waves[-1].said == "rest" or device.phase is not Phase.WAITING):
        assert device.phase in {Phase.STOOD, Phase.FAILED, Phase.GIVEN_UP, Phase.UNFIT, Phase.HAD_IT}, device
    if state.stage is Stage.ABORTED:
        assert device.phase is not Phase.STOOD, device
    if device.phase is Phase.STOOD:
        assert serves, device
    if serves:
        assert device.may_have_it or device.phase is Phase.HAD_IT, device
    if device.phase is not Phase.WAITING:
        assert device.reason, device
