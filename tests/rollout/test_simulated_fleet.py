"""A thousand simulated devices, each the real state machine of a target: whatever they do, the plan holds.

`tests/support/rollouts.py` says what has to hold at every tick. Ten thousand of them: `make bench-fleet`.
"""

from __future__ import annotations

from collections import Counter
from datetime import time, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from milton_assets.rollout.events import Aborted, Began, End, Ended, Planned, Resumed, Started, WaveOpened, WentBack
from milton_assets.rollout.plan import Freeze, Gate
from milton_assets.rollout.simulate import BEGINS_AT, Fleet, Habit, Kept, Rates, simulate
from milton_assets.rollout.states import Phase, Stage
from tests.support.rollouts import WIDE, Watch, check_ends, plan_of, simulated

TROUBLED = Rates(offline=0.2, failing=0.04, lying=0.001, crashing=0.02, slow=0.02, corrupt=0.01, flapping=0.05)


def test_a_thousand_devices_with_every_kind_of_trouble_end_as_planned() -> None:
    plan = plan_of(1000, waves=["1", "5%", "rest"], at_once=100)
    kept, fleet, watch = simulated(plan, TROUBLED, seed=4)
    state = kept.state
    assert state.stage is Stage.DONE
    check_ends(state, fleet)
    assert 50 < watch.most_at_once <= 100
    ends = Counter((fleet.devices[device.name].habit, device.phase) for device in state.each())
    assert {habit for habit, _ in ends} == set(Habit)
    assert {phase for habit, phase in ends if habit is Habit.WELL} == {Phase.STOOD}
    assert {phase for habit, phase in ends if habit is Habit.OFFLINE} == {Phase.STOOD, Phase.GIVEN_UP}
    assert {phase for habit, phase in ends if habit in {Habit.FAILING, Habit.CORRUPT, Habit.LYING}} == {Phase.FAILED}
    assert {phase for habit, phase in ends if habit is Habit.SLOW} == {Phase.STOOD}


def test_a_fifth_offline_a_twentieth_failing_and_one_lying_end_as_planned_and_say_why() -> None:
    plan = plan_of(200, waves=["1", "10%", "rest"], at_once=20)
    fleet = Fleet(plan, Rates(offline=0.2, failing=0.05), seed=1)
    liar = fleet.devices["d7"]
    assert liar.habit is Habit.WELL
    liar.habit = Habit.LYING
    state = simulate(fleet, on_tick=Watch(fleet)).state
    check_ends(state, fleet)
    assert state.stage is Stage.DONE
    by_end = Counter(device.end for device in state.each())
    failing = sum(device.habit is Habit.FAILING for device in fleet.devices.values())
    assert (by_end[End.WENT_BACK], by_end[End.NOT_AS_SAID]) == (failing, 1)
    assert "its journal does not know the attempt" in state.devices[liar.name].reason
    given_up = [device for device in state.each() if device.phase is Phase.GIVEN_UP]
    assert given_up
    assert all("not reached within 86400 s" in device.reason for device in given_up)
    assert all(device.reason == "it answers wrongly" for device in state.each() if device.end is End.WENT_BACK)


def test_a_release_that_fails_everywhere_is_stopped_by_evidence_and_nobody_has_it() -> None:
    plan = plan_of(1000, waves=["3", "rest"], at_once=50)
    kept, fleet, watch = simulated(plan, Rates(failing=1.0))
    assert kept.state.stage is Stage.STOPPED
    assert "3 of 3 devices failed" in kept.state.why
    assert (kept.state.begun, fleet.serving_the_release()) == (3, set())
    assert len(watch.ever) <= 3


def test_a_canary_that_fails_keeps_the_rollout_from_going_on() -> None:
    kept, fleet, _ = simulated(plan_of(20), Rates(failing=1.0))
    assert (kept.state.stage, kept.state.begun) == (Stage.PAUSED, 1)
    assert "0 of 1 devices stood, 1 failed" in kept.state.why
    check_ends(kept.state, fleet)


def test_a_wave_that_cannot_show_enough_waits_for_a_person() -> None:
    plan = plan_of(60, waves=["12", "rest"], at_once=12, gate=Gate(tolerable=0.05, intolerable=0.3))
    fleet = Fleet(plan, Rates(), seed=1)
    for name in plan.members[0].name, plan.members[1].name:
        fleet.devices[name].habit = Habit.FAILING
    kept = simulate(fleet)
    assert kept.state.stage is Stage.PAUSED
    assert "which takes 24 devices with so many failures" in kept.state.why
    kept.append(Resumed(at=fleet.clock.now, actor="ada"))
    kept.append(WaveOpened(at=fleet.clock.now, wave=1, reason="both had a broken card", actor="ada"))
    assert simulate(fleet, kept).state.stage is Stage.DONE


def test_an_offline_canary_does_not_hold_up_the_others() -> None:
    plan = plan_of(10, reach_within_s=7200.0)
    fleet = Fleet(plan, Rates(), seed=1)
    fleet.devices[plan.members[0].name].away_until = BEGINS_AT + timedelta(days=9)
    kept = simulate(fleet, on_tick=Watch(fleet))
    state = kept.state
    phases = Counter(device.phase for device in state.each())
    assert (state.stage, phases) == (Stage.DONE, {Phase.STOOD: 9, Phase.GIVEN_UP: 1})
    assert state.opened[1].at - BEGINS_AT < timedelta(minutes=5)
    gone = state.devices[plan.members[0].name]
    assert timedelta(hours=2) <= gone.since - BEGINS_AT <= timedelta(hours=2, minutes=2)


def test_nothing_begins_in_a_freeze() -> None:
    freeze = Freeze(begins=time(12, 1), ends=time(18))
    kept, fleet, _ = simulated(plan_of(40, at_once=4, freeze=[freeze]), Rates())
    began = [event.at for event in kept.events if isinstance(event, Began)]
    assert kept.state.stage is Stage.DONE
    assert any(at >= BEGINS_AT.replace(hour=18) for at in began)
    assert not [at for at in began if freeze.ends_at(at)]
    check_ends(kept.state, fleet)


def test_stopping_by_evidence_takes_everybody_back_where_the_plan_says_so() -> None:
    plan = plan_of(300, waves=["rest"], at_once=10, back_when_stopped=True)
    kept, fleet, _ = simulated(plan, Rates(failing=0.5))
    assert kept.state.stage is Stage.ABORTED
    assert any(isinstance(event, WentBack) for event in kept.events)
    assert fleet.serving_the_release() == set()
    check_ends(kept.state, fleet)


def aborted_in_the_middle(journal: Kept, seed: int) -> tuple[Kept, Fleet]:
    """A rollout that is aborted once eight devices stood."""
    fleet = Fleet(plan_of(24, at_once=4), Rates(crashing=0.2, flapping=0.2), seed=seed)
    fleet.devices["d0"].habit = Habit.WELL
    watch = Watch(fleet)

    def abort(state: object) -> None:
        watch(journal.state)
        if journal.state.stage is Stage.RUNNING and journal.state.well >= 8:
            journal.append(Aborted(at=fleet.clock.now, reason="regretted", actor="ada"))

    return simulate(fleet, journal, on_tick=abort), fleet


@pytest.mark.parametrize("late", [False, True], ids=["before-it-is-kept", "once-it-is-kept"])
def test_a_controller_killed_at_any_event_of_an_abort_takes_everybody_back_all_the_same(late: bool) -> None:
    whole, fleet = aborted_in_the_middle(Kept(), 3)
    assert whole.state.stage is Stage.ABORTED
    assert fleet.serving_the_release() == set()
    for number in range(len(whole.events)):
        kept, fleet = aborted_in_the_middle(Kept(number, late=late), 3)
        assert kept.kill_at is None, "it was not killed"
        assert kept.state.stage is Stage.ABORTED
        assert fleet.serving_the_release() == set()
        check_ends(kept.state, fleet)


@pytest.mark.parametrize("late", [False, True], ids=["before-it-is-kept", "once-it-is-kept"])
def test_a_controller_killed_at_any_event_comes_to_the_same_end(late: bool) -> None:
    plan = plan_of(16, waves=["1", "rest"], at_once=3, reach_within_s=1800.0)
    rates = Rates(offline=0.2, failing=0.1, corrupt=0.1, lying=0.1)
    whole, fleet, _ = simulated(plan, rates, seed=2)
    assert {device.habit for device in fleet.devices.values()} >= {
        Habit.OFFLINE,
        Habit.FAILING,
        Habit.LYING,
        Habit.WELL,
    }
    expected = {device.name: (device.phase, device.end) for device in whole.state.each()}
    for number in range(len(whole.events)):
        kept, fleet, _ = simulated(plan, rates, seed=2, journal=Kept(number, late=late))
        assert kept.kill_at is None, "it was not killed"
        assert {device.name: (device.phase, device.end) for device in kept.state.each()} == expected
        check_ends(kept.state, fleet)
        told = Counter(event.deployment for event in kept.events if isinstance(event, Ended))
        assert set(told.values()) == {1}, "an attempt ended twice"


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    devices=st.integers(1, 40),
    waves=st.sampled_from([["1", "rest"], ["10%", "50%", "rest"], ["rest"], ["class=pi5", "2", "rest"], ["2", "3"]]),
    at_once=st.integers(1, 12),
    retries=st.integers(0, 2),
    shares=st.lists(st.floats(0, 0.3), min_size=7, max_size=7),
    back=st.booleans(),
    seed=st.integers(0, 2**16),
    kill_at=st.none() | st.integers(2, 60),
    late=st.booleans(),
)
def test_whatever_the_plan_and_the_fleet_the_plan_holds(
    devices: int,
    waves: list[str],
    at_once: int,
    retries: int,
    shares: list[float],
    back: bool,
    seed: int,
    kill_at: int | None,
    late: bool,
) -> None:
    plan = plan_of(
        devices,
        waves=waves,
        at_once=at_once,
        retries=retries,
        back_when_stopped=back,
        reach_within_s=7200.0,
        labels=["pi5", "orin"],
    )
    journal = Kept(kill_at, late=late)
    kept, fleet, _ = simulated(plan, Rates(*shares), seed=seed, journal=journal)
    assert kept.state.stage in {Stage.DONE, Stage.PAUSED, Stage.STOPPED, Stage.ABORTED}
    check_ends(kept.state, fleet)
    if kept.state.stage is not Stage.DONE:
        assert kept.state.why


@pytest.mark.slow
@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    waves=st.sampled_from([["1", "5%", "rest"], ["20", "rest"], ["class=pi5", "rest"]]),
    at_once=st.integers(40, 200),
    shares=st.lists(st.floats(0, 0.1), min_size=7, max_size=7),
    in_turns=st.booleans(),
    seed=st.integers(0, 2**16),
    kill_at=st.integers(2, 1500),
)
def test_whatever_a_thousand_devices_do_the_plan_holds_though_the_controller_dies(
    waves: list[str], at_once: int, shares: list[float], in_turns: bool, seed: int, kill_at: int
) -> None:
    plan = plan_of(1000, waves=waves, at_once=at_once, labels=["pi5", "orin"])
    fleet = Fleet(plan, Rates(*shares), seed=seed)
    kept = simulate(
        fleet, Kept(kill_at, late=True), on_tick=Watch(fleet), on_turn=(lambda _: None) if in_turns else None
    )
    assert kept.state.stage in {Stage.DONE, Stage.PAUSED, Stage.STOPPED}
    check_ends(kept.state, fleet)
    assert kept.state.stage is Stage.DONE or kept.state.why


def test_false_stops_of_a_tolerable_release_are_at_most_as_many_as_the_plan_says() -> None:
    plan = plan_of(60, waves=["rest"], at_once=20, gate=WIDE)
    stopped = sum(
        simulated(plan, Rates(failing=WIDE.tolerable), seed=seed, watch=False)[0].state.stage is Stage.STOPPED
        for seed in range(60)
    )
    assert stopped <= 7  # at most a twentieth of 60 in the mean; 8 or more come once in a hundred


def test_a_journal_in_memory_is_planned_and_started_once() -> None:
    kept, _, _ = simulated(plan_of(2), Rates(), journal=Kept(1, late=True))
    assert [type(event) for event in kept.events[:2]] == [Planned, Started]
    assert sum(isinstance(event, Planned | Started) for event in kept.events) == 2
