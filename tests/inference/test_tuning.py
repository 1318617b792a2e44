"""The search over settings: what is compared with what, and when something may be called better."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.tiers.inference.beside import Ratio
from milton_assets.tiers.inference.tuning import Compare, NotMeasured, TrialVerdict, Tuned, search
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.tuning import Choice, Chosen

THREADS, WIDE = Choice("threads", "threads 4"), Choice("batch", "batch 1024")
AXES = {"threads": (THREADS, Choice("threads", "threads 1")), "batch": (WIDE,)}


def compared(speeds: dict[str, float], spread: float = 0.02, figure: str = "output_tokens_per_s") -> Compare:
    """Comparisons in which each choice multiplies the figure by its speed, known to `spread`."""

    def compare(of: Chosen, against: Chosen) -> dict[str, Ratio]:
        value = 1.0
        for choice in of:
            value *= speeds.get(choice.label, 1.0)
        for choice in against:
            value /= speeds.get(choice.label, 1.0)
        return {figure: Ratio(value, value / (1 + spread), value * (1 + spread), 8)}

    return compare


def verdicts(tuned: Tuned) -> dict[str, TrialVerdict]:
    return {trial.of[-1].label: trial.verdict for trial in tuned.trials}


def test_each_axis_starts_from_the_best_of_the_one_before() -> None:
    tuned = search(AXES, compared({"threads 4": 1.5, "threads 1": 0.5, "batch 1024": 1.3}))
    assert [(trial.of, trial.against) for trial in tuned.trials][-1] == ((THREADS, WIDE), (THREADS,))
    assert tuned.recommended == (THREADS, WIDE)
    assert verdicts(tuned)["threads 1"] is TrialVerdict.WORSE
    assert tuned.confirmation is not None
    assert tuned.confirmation.against == ()


def test_nothing_is_better_within_what_the_same_settings_differ_from_themselves_by() -> None:
    tuned = search(AXES, compared({"threads 4": 1.15}, spread=0.1))
    assert tuned.noise == pytest.approx(1.1)
    assert verdicts(tuned)["threads 4"] is TrialVerdict.WITHIN_NOISE
    assert (tuned.recommended, tuned.confirmation) == ((), None)


def test_less_is_better_of_a_time() -> None:
    figure = "ttft_ms.median"
    tuned = search(AXES, compared({"threads 4": 0.5}, figure=figure), figure=figure)
    assert tuned.recommended == (THREADS,)
    assert tuned.trials[0].gain is not None
    assert tuned.trials[0].gain.value == 2.0
    assert tuned.trials[0].gain.low == pytest.approx(2 / 1.02)


def test_what_does_not_hold_when_measured_anew_is_not_recommended() -> None:
    lucky, times = compared({"threads 4": 1.5}), []

    def compare(of: Chosen, against: Chosen) -> dict[str, Ratio]:
        times.append(of)
        return dict(lucky(of if times.count((THREADS,)) < 2 else (), against))

    tuned = search({"threads": (THREADS,)}, compare)
    assert verdicts(tuned) == {"threads 4": TrialVerdict.BETTER}
    assert tuned.confirmation is not None
    assert (tuned.confirmation.verdict, tuned.recommended) == (TrialVerdict.WITHIN_NOISE, ())


def test_settings_that_cannot_be_measured_are_told_with_why_and_the_search_goes_on() -> None:
    sound = compared({"batch 1024": 1.5})

    def compare(of: Chosen, against: Chosen) -> dict[str, Ratio]:
        if THREADS in of:
            raise NotMeasured("the server did not start")
        return dict(sound(of, against))

    tuned = search(AXES, compare)
    assert tuned.trials[0].because == "the server did not start"
    assert tuned.recommended == (WIDE,)


def test_without_a_noise_there_is_no_search() -> None:
    def compare(of: Chosen, against: Chosen) -> dict[str, Ratio]:
        raise NotMeasured("the machine was busy")

    with pytest.raises(NotMeasured, match="busy"):
        search(AXES, compare)


def test_a_figure_that_rounds_do_not_have_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(BadInput, match="no figure of a round"):
        search(AXES, compared({}), figure="energy_j_per_token")


def test_what_is_better_in_one_figure_and_worse_in_another_is_a_trade_and_not_recommended() -> None:
    faster, later = compared({"threads 4": 1.5}), compared({"threads 4": 1.3}, figure="ttft_ms.median")
    tuned = search(AXES, lambda of, against: {**faster(of, against), **later(of, against)})
    assert verdicts(tuned)["threads 4"] is TrialVerdict.TRADE
    assert tuned.trials[0].because == "ttft_ms.median is only 0.769 times as good"
    assert tuned.recommended == ()


SPEEDS = st.dictionaries(st.sampled_from(["threads 4", "threads 1", "batch 1024"]), st.floats(0.3, 3.0))


@dataclass(frozen=True)
class Answers:
    """Comparisons that are told exactly, to `spread`, for two figures."""

    speeds: dict[str, float]
    delays: dict[str, float]
    spread: float

    def __call__(self, of: Chosen, against: Chosen) -> dict[str, Ratio]:
        throughput = compared(self.speeds, self.spread)(of, against)
        return {**throughput, **compared(self.delays, self.spread, "ttft_ms.median")(of, against)}


@given(SPEEDS, SPEEDS, st.floats(0.001, 0.3))
def test_what_is_recommended_is_better_beyond_the_noise_and_in_nothing_worse(
    speeds: dict[str, float], delays: dict[str, float], spread: float
) -> None:
    tuned = search(AXES, Answers(speeds, delays, spread))
    gain, delay = 1.0, 1.0
    for choice in tuned.recommended:
        gain, delay = gain * speeds.get(choice.label, 1.0), delay * delays.get(choice.label, 1.0)
    if tuned.recommended:
        assert gain / (1 + spread) > tuned.noise
        assert delay / (1 + spread) <= tuned.noises["ttft_ms.median"]
    if all(speed <= 1 for speed in speeds.values()):
        assert tuned.recommended == ()
