"""Sequential detectors: few false alarms in years of a well device, and an ill one noticed within a few checks."""

from __future__ import annotations

import numpy as np
import pytest

from milton_assets.edge.serving.watch import SPEED, STREAMS, TRUTH
from milton_assets.statistics.sequential import Grade, Watched, threshold
from milton_assets.vocabulary.errors import BadInput

CHECKS_PER_YEAR = 365.25 * 86400 / 600


def checks_until_alarm(grades: tuple[Grade, ...], value: float, height: float) -> int:
    stream = Watched.of(grades, height)
    for number in range(1, 10_000):
        stream = stream.after(value)
        if stream.alarms:
            return number
    raise AssertionError("it never alarmed")


@pytest.mark.parametrize("grade", [*SPEED, *TRUTH], ids=str)
def test_a_check_of_a_well_device_is_worth_at_most_nothing_in_the_mean(grade: Grade) -> None:
    bad, good = grade.e_value(grade.below - 0.01), grade.e_value(1.0)
    assert grade.rate * bad + (1 - grade.rate) * good == pytest.approx(1.0)


def test_a_year_of_good_checks_never_alarms() -> None:
    stream = Watched.of(SPEED, 100.0)
    for _ in range(5000):
        stream = stream.after(1.0)
    assert not stream.alarms


@pytest.mark.parametrize(("grades", "value"), [(SPEED, 0.1), (TRUTH, 0.0)], ids=["ten-times-slower", "wrong-answer"])
def test_what_is_badly_wrong_is_seen_within_three_checks_at_the_default_pace(
    grades: tuple[Grade, ...], value: float
) -> None:
    height = threshold(checks_per_year=365.25 * 86400 / 30, alarms_per_year=1.0, streams=len(STREAMS))
    assert checks_until_alarm(grades, value, height) <= 3


def test_a_third_slower_is_seen_too() -> None:
    height = threshold(checks_per_year=365.25 * 86400 / 30, alarms_per_year=1.0, streams=len(STREAMS))
    assert checks_until_alarm(SPEED, 0.7, height) <= 8


def test_after_an_alarm_it_begins_anew() -> None:
    stream = Watched.of(TRUTH, 10.0).after(0.0)
    assert stream.alarms
    assert not stream.after(1.0).alarms
    assert stream.after(1.0).checks == 1


def alarms_of(grades: tuple[Grade, ...], height: float, devices: int, checks: int, rng: np.random.Generator) -> int:
    """Alarms of so many well devices that are as bad as a well device may be, all checks of all devices at once."""
    evidence = np.zeros((len(grades), devices))
    alarms = 0
    for _ in range(checks):
        drawn = rng.random(devices)
        for number, grade in enumerate(grades):
            e = np.where(drawn < grade.rate, grade.e_value(grade.below - 1e-9), grade.e_value(1.0))
            evidence[number] = (evidence[number] + 1) * e
        alarmed = evidence.mean(axis=0) >= height
        alarms += int(alarmed.sum())
        evidence[:, alarmed] = 0.0
    return alarms


@pytest.mark.slow
@pytest.mark.parametrize("budget", [1.0, 12.0], ids=["one-a-year", "one-a-month"])
def test_a_thousand_device_years_stay_within_the_budget(budget: float) -> None:
    """Checks every ten minutes, in units of which everything scales; speeds and answers as bad as they may be."""
    rng = np.random.default_rng(20260111)
    devices, share = 1000, 0.2
    height = threshold(checks_per_year=CHECKS_PER_YEAR, alarms_per_year=budget, streams=len(STREAMS))
    found = 0
    for _ in range(round(1 / share)):
        found += alarms_of(SPEED, height, devices, int(CHECKS_PER_YEAR * share), rng)
    # Three of the five streams are speeds; those of the answers, of two grades less, alarm no more often.
    assert found * len(STREAMS) <= devices * budget


def test_a_budget_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput):
        threshold(checks_per_year=100, alarms_per_year=0, streams=1)
    with pytest.raises(BadInput):
        Grade(0.5, 0.95)
    with pytest.raises(BadInput):
        Watched.of((), 100)
