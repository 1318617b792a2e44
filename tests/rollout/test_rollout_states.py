"""A rollout's state machine: what must not follow is refused, whoever asks."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from milton_assets.edge.deployment.ids import mint
from milton_assets.rollout.events import (
    Aborted,
    Began,
    End,
    Ended,
    Event,
    Finished,
    GivenUp,
    GoingBack,
    HadIt,
    Joined,
    NotBack,
    Offline,
    Paused,
    Planned,
    Resumed,
    Started,
    Stopped,
    Unfit,
    WaveOpened,
    WentBack,
)
from milton_assets.rollout.plan import Freeze, Gate, Member, Opens, Plan
from milton_assets.rollout.states import IllegalEvent, Phase, Rollout, Stage, step
from milton_assets.vocabulary.digest import sha256_bytes
from tests.support.rollouts import plan_of

NOON = datetime(2026, 1, 11, 12, 0, tzinfo=UTC)  # a Sunday
BEFORE = sha256_bytes(b"before")


class Told:
    """A rollout that is told one event after the other, a second apart."""

    def __init__(self, plan: Plan, *, started: bool = True) -> None:
        self.now = NOON
        self.state: Rollout = step(None, Planned(at=NOON, actor="ada", plan=plan))
        if started:
            self.tell(Started, actor="ada")

    def tell(self, kind: Any, **more: Any) -> Rollout:
        self.now += timedelta(seconds=1)
        event: Event = kind(at=self.now, **more)
        self.state = step(self.state, event)
        return self.state

    def begin(self, device: str) -> Rollout:
        return self.tell(Began, device=device, deployment=mint(self.now), before=BEFORE)

    def end(self, device: str, end: End = End.STOOD, **more: Any) -> Rollout:
        serving = self.state.plan.release if end is End.STOOD else BEFORE
        deployment = self.state.devices[device].deployment
        return self.tell(
            Ended,
            **({"device": device, "deployment": deployment, "end": end, "reason": "so", "serving": serving} | more),
        )


def test_a_canary_that_stands_opens_the_rest() -> None:
    told = Told(plan_of(3))
    first, second, third = told.state.order
    told.begin(first)
    assert told.end(first).exposure_bound == 1
    assert told.tell(WaveOpened, wave=1, reason="it stood").exposure_bound == 3
    for device in (second, third):
        told.begin(device)
        told.end(device)
    assert told.tell(Finished).stage is Stage.DONE


def test_no_second_device_begins_while_the_wave_is_one_canary() -> None:
    told = Told(plan_of(3))
    told.begin(told.state.order[0])
    with pytest.raises(IllegalEvent, match="no place in the open wave"):
        told.begin(told.state.order[1])
    told.end(told.state.order[0], End.WENT_BACK)
    with pytest.raises(IllegalEvent, match="no place in the open wave"):
        told.begin(told.state.order[1])


def test_no_more_change_at_once_than_planned() -> None:
    told = Told(plan_of(3, waves=["rest"], at_once=1))
    told.begin("d0")
    with pytest.raises(IllegalEvent, match="1 devices are changing"):
        told.begin("d1")


def test_a_wave_of_a_label_takes_no_other_device() -> None:
    told = Told(plan_of(4, waves=["class=pi5", "rest"], labels=["pi5", "orin"]))
    told.begin("d0")
    with pytest.raises(IllegalEvent, match="no place"):
        told.begin("d1")
    assert told.state.exposure_bound == 2


def test_the_next_wave_stays_shut_while_a_device_failed() -> None:
    told = Told(plan_of(3))
    told.begin(told.state.order[0])
    told.end(told.state.order[0], End.WENT_BACK)
    with pytest.raises(IllegalEvent, match="nothing opens it yet"):
        told.tell(WaveOpened, wave=1, reason="I say so")
    assert told.tell(WaveOpened, wave=1, reason="a person says so", actor="ada").wave == 1


def test_the_next_wave_stays_shut_until_the_evidence_suffices() -> None:
    told = Told(plan_of(30, waves=["10", "rest"], at_once=10))
    devices = told.state.order[:8]
    for device in devices:
        told.begin(device)
    for device in devices[:7]:
        told.end(device)
        with pytest.raises(IllegalEvent, match="nothing opens it yet"):
            told.tell(WaveOpened, wave=1, reason="too early")
    told.end(devices[7])
    assert told.tell(WaveOpened, wave=1, reason="8 stood").wave == 1


def test_a_person_cannot_open_a_wave_against_the_evidence() -> None:
    told = Told(plan_of(9, waves=["3", "rest"]))
    for device in told.state.order[:3]:
        told.begin(device)
        told.end(device, End.WENT_BACK)
    with pytest.raises(IllegalEvent, match="not tolerable"):
        told.tell(WaveOpened, wave=1, reason="all the same", actor="ada")
    assert told.tell(Stopped, reason="3 of 3").stage is Stage.STOPPED
    with pytest.raises(IllegalEvent, match="the rollout is stopped"):
        told.begin(told.state.order[3])


def test_it_stops_by_evidence_alone() -> None:
    told = Told(plan_of(3))
    with pytest.raises(IllegalEvent, match="the evidence does not say so"):
        told.tell(Stopped, reason="a feeling")


def test_a_device_that_failed_before_it_changed_is_tried_again_in_its_own_place() -> None:
    told = Told(plan_of(3, retries=1, retry_after_s=30))
    first = told.state.order[0]
    told.begin(first)
    assert told.end(first, End.FAILED, serving=None).devices[first].phase is Phase.WAITING
    with pytest.raises(IllegalEvent, match="tried again later"):
        told.begin(first)
    told.now += timedelta(seconds=30)
    assert told.begin(first).begun == 1
    state = told.end(first, End.FAILED, serving=None)
    assert (state.devices[first].phase, state.failed) == (Phase.FAILED, 1)


@pytest.mark.parametrize("end", [End.WENT_BACK, End.NOT_AS_SAID, End.SILENT])
def test_whatever_else_ends_an_attempt_is_the_devices_end(end: End) -> None:
    told = Told(plan_of(3, retries=9))
    told.begin(told.state.order[0])
    state = told.end(told.state.order[0], end)
    assert (state.devices[state.order[0]].phase, state.failed) == (Phase.FAILED, 1)


def test_a_device_does_not_stand_with_another_release() -> None:
    told = Told(plan_of(3))
    told.begin(told.state.order[0])
    with pytest.raises(IllegalEvent, match="does not serve the release"):
        told.end(told.state.order[0], serving=BEFORE)


def test_an_end_is_of_the_attempt_that_began() -> None:
    told = Told(plan_of(3))
    told.begin(told.state.order[0])
    with pytest.raises(IllegalEvent, match="is its attempt"):
        told.end(told.state.order[0], deployment=mint(NOON))


def test_nothing_begins_in_a_freeze_and_what_began_ends() -> None:
    freeze = Freeze(begins=time(12, 1), ends=time(13), days=(6,))
    told = Told(plan_of(3, waves=["rest"], freeze=[freeze]))
    told.begin("d0")
    told.now = NOON + timedelta(minutes=5)
    with pytest.raises(IllegalEvent, match="no device begins"):
        told.begin("d1")
    told.end("d0")
    told.now = NOON + timedelta(hours=1)
    told.begin("d1")


def test_a_freeze_over_midnight_ends_the_next_day() -> None:
    freeze = Freeze(begins=time(22), ends=time(6), days=(6,))
    monday = NOON + timedelta(days=1)
    assert freeze.ends_at(NOON.replace(hour=23)) == monday.replace(hour=6)
    assert freeze.ends_at(monday.replace(hour=5)) == monday.replace(hour=6)
    assert freeze.ends_at(monday.replace(hour=23)) is None


def test_nothing_begins_while_it_is_paused() -> None:
    told = Told(plan_of(3))
    told.tell(Paused, reason="lunch", actor="ada")
    with pytest.raises(IllegalEvent, match="the rollout is paused"):
        told.begin(told.state.order[0])
    told.tell(Resumed, actor="ada")
    told.begin(told.state.order[0])


def test_who_was_never_tried_is_not_in_the_evidence() -> None:
    told = Told(plan_of(4))
    for device, kind in zip(told.state.order, (HadIt, Unfit, Offline), strict=False):
        told.tell(kind, device=device, **({} if kind is HadIt else {"reason": "so"}))
    told.tell(GivenUp, device=told.state.order[2], reason="too long")
    assert (told.state.begun, told.state.failed, told.state.undecided) == (0, 0, 1)
    with pytest.raises(IllegalEvent, match="some device has no end yet"):
        told.tell(Finished)


def test_late_joiners_wait_for_a_place_in_the_open_wave() -> None:
    told = Told(plan_of(2, late=["pi5"]))
    told.begin(told.state.order[0])
    told.tell(Joined, member=Member(name="late", labels=frozenset({"pi5"})))
    with pytest.raises(IllegalEvent, match="no place"):
        told.begin("late")
    told.end(told.state.order[0])
    told.tell(WaveOpened, wave=1, reason="it stood")
    assert told.begin("late").exposure_bound == 3
    with pytest.raises(IllegalEvent, match="lets no such device join"):
        told.tell(Joined, member=Member(name="other", labels=frozenset({"orin"})))
    with pytest.raises(IllegalEvent, match="already"):
        told.tell(Joined, member=Member(name="late", labels=frozenset({"pi5"})))


def test_an_abort_takes_back_who_has_it_and_nobody_else() -> None:
    told = Told(plan_of(4, waves=["rest"], opens=Opens.ALL_WELL))
    for device, end in zip(("d0", "d1", "d2"), (End.STOOD, End.WENT_BACK, End.SILENT), strict=True):
        told.begin(device)
        told.end(device, end)
    told.tell(Aborted, reason="regretted", actor="ada")
    with pytest.raises(IllegalEvent, match="some device has no end yet"):
        told.tell(Finished)
    with pytest.raises(IllegalEvent, match="does not have the release"):
        told.tell(GoingBack, device="d1", deployment=mint(NOON))
    with pytest.raises(IllegalEvent, match="the rollout is aborting"):
        told.begin("d3")
    told.tell(GoingBack, device="d0", deployment=mint(NOON))
    with pytest.raises(IllegalEvent, match="it serves the release"):
        told.tell(WentBack, device="d0", reason="it says", serving=told.state.plan.release)
    told.tell(WentBack, device="d0", reason="it went back", serving=BEFORE)
    told.tell(NotBack, device="d2", reason="not reached")
    state = told.tell(Finished)
    assert (state.stage, [one.name for one in state.exposed()]) == (Stage.ABORTED, ["d2"])


def test_a_finished_rollout_can_still_be_taken_back() -> None:
    told = Told(plan_of(1))
    told.begin("d0")
    told.end("d0")
    told.tell(Finished)
    assert told.tell(Aborted, reason="regretted", actor="ada").stage is Stage.ABORTING


def test_a_rollout_is_planned_once_and_started_once() -> None:
    told = Told(plan_of(1))
    with pytest.raises(IllegalEvent, match="planned once"):
        told.tell(Planned, actor="ada", plan=plan_of(1))
    with pytest.raises(IllegalEvent, match="the rollout is running"):
        told.tell(Started, actor="ada")
    with pytest.raises(IllegalEvent, match="planned once"):
        step(None, Started(at=NOON, actor="ada"))


def test_nothing_happens_to_a_device_that_is_not_of_the_rollout() -> None:
    told = Told(plan_of(1))
    with pytest.raises(IllegalEvent, match="stranger is not of this rollout"):
        told.begin("stranger")


def test_a_gate_that_makes_no_test_is_refused_with_its_figures() -> None:
    with pytest.raises(ValueError, match=r"failure rates of 0\.3"):
        Gate(tolerable=0.3, intolerable=0.2)
