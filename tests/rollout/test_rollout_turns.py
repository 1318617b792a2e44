"""A rollout run a turn at a time, as the graph runs it: the same rollout, with nobody who stays with it."""

from __future__ import annotations

from collections import Counter
from datetime import time, timedelta

import pytest

from milton_assets.edge.deployment.ids import mint
from milton_assets.rollout.events import Began, End, Ended, Offline, Planned, Started, Unfit
from milton_assets.rollout.plan import Freeze
from milton_assets.rollout.simulate import BEGINS_AT, Fleet, Kept, Rates, simulate
from milton_assets.rollout.states import Phase, Stage
from milton_assets.rollout.turns import BETWEEN, next_turn
from tests.support.rollouts import Watch, check_ends, plan_of

TROUBLED = Rates(failing=0.05, crashing=0.1, slow=0.05, flapping=0.1)


def in_turns(fleet: Fleet, journal: Kept | None = None) -> tuple[Kept, list[tuple[int, int]]]:
    """The rollout's journal, and the wave that was open and the number of events after each turn."""
    turns: list[tuple[int, int]] = []
    kept = simulate(
        fleet, journal, on_tick=Watch(fleet), on_turn=lambda state: turns.append((state.wave, state.events))
    )
    return kept, turns


def test_each_wave_is_a_turn_and_no_turn_begins_devices_of_two_waves() -> None:
    fleet = Fleet(plan_of(60, waves=["1", "20%", "rest"], at_once=8), Rates(), seed=1)
    kept, turns = in_turns(fleet)
    assert kept.state.stage is Stage.DONE
    assert [wave for wave, _ in turns] == [1, 2, 2]
    ends = [events for _, events in turns]
    began = Counter(
        sum(number >= end for end in ends) for number, event in enumerate(kept.events) if isinstance(event, Began)
    )
    assert began == Counter(dict(enumerate(kept.state.begun_in)))


@pytest.mark.parametrize("kill_at", [None, 7, 40], ids=["alive", "killed-in-the-canary", "killed-in-the-rest"])
def test_it_comes_to_the_end_that_a_controller_that_stays_comes_to(kill_at: int | None) -> None:
    plan = plan_of(60, waves=["1", "20%", "rest"], at_once=8)
    stayed = simulate(Fleet(plan, TROUBLED, seed=3)).state
    fleet = Fleet(plan, TROUBLED, seed=3)
    kept, _ = in_turns(fleet, Kept(kill_at))
    check_ends(kept.state, fleet)
    assert (kept.state.stage, kept.state.well, kept.state.failed) == (stayed.stage, stayed.well, stayed.failed)


def test_a_turn_does_not_stay_for_a_device_that_is_away_and_later_ones_ask_it_until_its_deadline() -> None:
    plan = plan_of(10, waves=["1", "rest"], at_once=4, reach_within_s=86_400.0)
    fleet = Fleet(plan, Rates(), seed=1)
    fleet.devices["d3"].away_until = BEGINS_AT + timedelta(days=9)
    fleet.devices["d4"].away_until = BEGINS_AT + timedelta(hours=5)
    kept, turns = in_turns(fleet)
    assert (kept.state.stage, kept.state.well) == (Stage.DONE, 9)
    gone = kept.state.devices["d3"]
    assert gone.phase is Phase.GIVEN_UP
    assert timedelta(hours=24) <= gone.since - BEGINS_AT <= timedelta(hours=24, minutes=5)
    assert kept.state.devices["d4"].since - BEGINS_AT < timedelta(hours=5, minutes=45)
    assert 10 < len(turns) < 60  # not a run every half minute of a day


def test_nothing_is_due_in_a_freeze_before_its_end() -> None:
    fleet = Fleet(plan_of(6, at_once=1, freeze=[Freeze(begins=time(12, 1), ends=time(18))]), Rates(), seed=1)
    kept, turns = in_turns(fleet)
    assert kept.state.stage is Stage.DONE
    assert len(turns) <= 4
    assert kept.events[-1].at > BEGINS_AT.replace(hour=18)


def test_what_waits_for_a_person_is_never_due() -> None:
    fleet = Fleet(plan_of(5), Rates(failing=1.0), seed=1)
    kept, turns = in_turns(fleet)
    assert (kept.state.stage, len(turns)) == (Stage.PAUSED, 1)
    assert next_turn(kept.state, fleet.clock.now, fleet.clock.now) is None


def test_what_a_dead_run_left_changing_is_due_at_once_and_what_is_away_only_later() -> None:
    kept, at = Kept(), BEGINS_AT
    for event in (Planned(at=at, actor="ada", plan=plan_of(2, waves=["rest"])), Started(at=at, actor="ada")):
        kept.append(event)
    assert next_turn(kept.state, None, at) == at
    kept.append(Offline(at=at, device="d0", reason="no route to host"))
    kept.append(Began(at=at, device="d1", deployment=mint(at), before=None))
    later = at + timedelta(minutes=1)
    assert next_turn(kept.state, later, later) == at
    ended = Ended(at=at, device="d1", deployment=kept.state.devices["d1"].deployment, end=End.FAILED, reason="full")
    kept.append(ended)
    kept.append(Unfit(at=kept.state.devices["d1"].not_before or at, device="d1", reason="full"))
    assert next_turn(kept.state, later, later) == later + BETWEEN
