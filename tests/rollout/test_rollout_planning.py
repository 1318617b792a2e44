"""From waves as they are written to a plan that says what it takes."""

from __future__ import annotations

from datetime import time

import pytest

from milton_assets.rollout.plan import Freeze, Gate, Member, Opens
from milton_assets.rollout.planning import freeze_of, in_order, waves_of, what_it_takes
from milton_assets.vocabulary.errors import BadInput
from tests.support.rollouts import plan_of

FLEET = [Member(name=f"d{n}", labels=frozenset({"pi5" if n % 4 else "orin"})) for n in range(200)]


def test_waves_are_written_as_counts_shares_classes_and_the_rest() -> None:
    waves = waves_of(["3", "10%", "class=orin", "rest"], FLEET, Gate())
    assert [(wave.limit, wave.label) for wave in waves] == [(3, None), (20, None), (None, "orin"), (None, None)]


def test_a_share_is_never_more_than_it_says_and_at_least_one_device() -> None:
    assert [wave.limit for wave in waves_of(["0.1%", "33.3%", "rest"], FLEET, Gate())] == [1, 66, None]


def test_what_opens_a_wave_is_the_evidence_wherever_it_can_suffice() -> None:
    waves = waves_of(["1", "10", "10%", "rest"], FLEET, Gate())
    assert [wave.opens for wave in waves[:3]] == [Opens.ALL_WELL, Opens.ALL_WELL, Opens.EVIDENCE]


def test_a_wave_of_too_few_for_the_evidence_that_was_asked_for_is_refused_with_how_many_it_takes() -> None:
    with pytest.raises(BadInput, match=r"at most 3 devices have begun.*it takes 15 that all stood"):
        waves_of(["3", "rest"], FLEET, Gate(), Opens.EVIDENCE)
    waves_of(["15", "rest"], FLEET, Gate(), Opens.EVIDENCE)


@pytest.mark.parametrize("wrong", ["0", "-1", "0%", "101%", "half", "class=", "class=../x", "class=h100", ""])
def test_what_is_no_wave_is_refused(wrong: str) -> None:
    with pytest.raises(BadInput):
        waves_of([wrong], FLEET, Gate())


def test_nothing_comes_after_the_rest() -> None:
    with pytest.raises(BadInput, match="comes after `rest`"):
        waves_of(["rest", "1"], FLEET, Gate())
    with pytest.raises(BadInput, match="without a wave"):
        waves_of([], FLEET, Gate())


def test_the_order_is_the_same_for_the_same_rollout_and_another_for_another() -> None:
    assert in_order(FLEET, "spring") == in_order(FLEET[::-1], "spring")
    assert in_order(FLEET, "spring") != in_order(FLEET, "autumn")
    assert sorted(in_order(FLEET, "spring"), key=lambda one: one.name) == sorted(FLEET, key=lambda one: one.name)


def test_freezes_are_written_as_times_of_day_and_days() -> None:
    assert freeze_of("22:00-06:00") == Freeze(begins=time(22), ends=time(6))
    assert freeze_of("sat,sun 00:00-23:59").days == (5, 6)


@pytest.mark.parametrize("wrong", ["22-06", "22:00-22:00", "25:00-06:00", "someday 10:00-11:00", ""])
def test_what_is_no_freeze_is_refused(wrong: str) -> None:
    with pytest.raises(BadInput, match="is no freeze"):
        freeze_of(wrong)


def test_a_plan_says_what_each_wave_takes_and_what_a_canary_leaves_possible() -> None:
    said = list(what_it_takes(plan_of(100, waves=["1", "20%", "rest"], gate=Gate(), at_once=5)))
    assert said == [
        "wave 1 (1): at most 1 device, 5 at once; the next opens if every device so far stood. That is no rate: after "
        "1 that stood, one of up to 95% is still possible",
        "wave 2 (20%): at most 20 devices, 5 at once; the next opens once a failure rate of 20% is excluded with an "
        "error of 5%: after 15 devices if none fails, 28 if one does",
        "wave 3 (rest): at most 100 devices, 5 at once; at most 100 of 100 have begun by its end",
        "it stops, in any wave, once a failure rate of 2% or less is excluded with an error of 5%: 10 of 100 failures "
        "suffice",
    ]


def test_a_plan_with_a_device_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="the device d0 is in the plan twice"):
        plan_of(2, late=["local"]).model_validate(
            plan_of(1).model_dump() | {"members": [{"name": "d0"}, {"name": "d0"}]}
        )
