"""A small search over a server's settings: one after the other from those in force, each beside the best so far.

    tuned = search(axes, compare, figure="output_tokens_per_s")

What belongs here: which settings are compared with which, and when one may be called better. What does not: which
settings a server takes (`resources.servers.tunable`), starting servers and measuring (`milton_assets.usecases.tuning`).

First the settings in force are measured beside themselves, both started anew each time: how far from 1 those ratios
reach, intervals included, is the noise. A trial is better only where its whole 95 % interval lies beyond the noise.
What the search ends on is the best of several and flattered by having been picked, so it is measured once more against
where it began, both started anew, and only what is better there, too, is recommended.

More tokens a second at the price of a later first token, or the other way round, is nobody's gain unasked: what is
better in one of the two and worse beyond its noise in the other is a trade, told and not recommended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from milton_assets.tiers.inference.beside import Ratio
from milton_assets.tiers.inference.definitions import BY_ROUND
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.tuning import Choice, Chosen

THROUGHPUT: Final = "output_tokens_per_s"
"""The one figure of `BY_ROUND` of which more is better; of the others, which are times, less is."""
REPEATS: Final = 3
"""Comparisons of the settings in force with themselves. Of two, one search in eighteen among equals recommends
something where starts scatter ten times as much as rounds; of three, one in thirty (ADR 239)."""
GUARDED: Final = (THROUGHPUT, "ttft_ms.median")
"""Figures of which none may get worse for another."""


class TrialVerdict(StrEnum):
    """What a trial showed."""

    BETTER = "better"
    TRADE = "trade"
    WORSE = "worse"
    WITHIN_NOISE = "within_noise"
    NOT_MEASURED = "not_measured"


@dataclass(frozen=True)
class Trial:
    """Settings and those they were measured beside. `gains` is by figure how many times as good they were, above 1 for
    better, `gain` that of the figure searched for; None and empty where `because` says why nothing was measured. Of a
    trade, it says what got worse."""

    of: Chosen
    against: Chosen
    verdict: TrialVerdict
    gain: Ratio | None = None
    because: str | None = None
    gains: Mapping[str, Ratio] = field(default_factory=dict)


@dataclass(frozen=True)
class Tuned:
    """How a search went. `noises` are the factors that settings differ from themselves by, of the figure searched for
    and of each that is guarded; `repeats` are the first's ratios. `recommended` is empty where nothing was better than
    the settings in force."""

    figure: str
    noises: Mapping[str, float]
    repeats: tuple[Ratio, ...]
    trials: tuple[Trial, ...]
    confirmation: Trial | None
    recommended: Chosen

    @property
    def noise(self) -> float:
        """That of the figure searched for."""
        return self.noises[self.figure]


class NotMeasured(MiltonError):
    """A comparison that cannot be had, with why: the server did not start, or the machine was busy."""


Compare = Callable[[Chosen, Chosen], Mapping[str, Ratio]]
"""The first settings' figures over the second's, by figure, both started anew. Raises `NotMeasured`."""


def search(
    axes: Mapping[str, Sequence[Choice]], compare: Compare, *, figure: str = THROUGHPUT, repeats: int = REPEATS
) -> Tuned:
    """Search one axis after the other. Raises `BadInput` for a figure that rounds do not have, `NotMeasured` when the
    settings in force cannot be measured."""
    if figure not in BY_ROUND:
        raise BadInput(f"{figure!r:.100} is no figure of a round", expected=f"one of {', '.join(BY_ROUND)}")
    repeated = [_gains(compare((), ()), figure) for _ in range(repeats)]
    alike = tuple(gains[figure] for gains in repeated)
    noises = {
        name: max(max(gains[name].high, 1 / gains[name].low) for gains in repeated)
        for name in (figure, *GUARDED)
        if all(name in gains for gains in repeated)
    }
    trials: list[Trial] = []
    best: Chosen = ()
    for choices in axes.values():
        tried = [_trial((*best, choice), best, compare, figure, noises) for choice in choices]
        trials += tried
        better = [trial for trial in tried if trial.verdict is TrialVerdict.BETTER]
        if better:
            best = max(better, key=lambda trial: trial.gain.low if trial.gain else 0.0).of
    confirmation = _trial(best, (), compare, figure, noises) if best else None
    holds = confirmation is not None and confirmation.verdict is TrialVerdict.BETTER
    return Tuned(figure, noises, alike, tuple(trials), confirmation, best if holds else ())


def how_many(axes: Mapping[str, Sequence[Choice]], repeats: int = REPEATS) -> int:
    """The most comparisons that a search makes."""
    return repeats + sum(map(len, axes.values())) + 1


def _trial(of: Chosen, against: Chosen, compare: Compare, figure: str, noises: Mapping[str, float]) -> Trial:
    try:
        gains = _gains(compare(of, against), figure)
    except NotMeasured as error:
        return Trial(of, against, TrialVerdict.NOT_MEASURED, because=error.problem)
    gain, noise = gains[figure], noises[figure]
    worse = [name for name in noises if name in gains and gains[name].high < 1 / noises[name]]
    verdict, because = TrialVerdict.WITHIN_NOISE, None
    if figure in worse:
        verdict = TrialVerdict.WORSE
    elif gain.low > noise:
        verdict = TrialVerdict.TRADE if worse else TrialVerdict.BETTER
        because = f"{worse[0]} is only {gains[worse[0]].value:.3f} times as good" if worse else None
    return Trial(of, against, verdict, gain, because, gains)


def _gains(ratios: Mapping[str, Ratio], figure: str) -> dict[str, Ratio]:
    """The ratios of that figure and of those that are guarded, turned over for times, so that above 1 is better."""
    if figure not in ratios:
        raise NotMeasured(f"too few sound rounds had {figure}", remedy="give it more rounds (--rounds)")
    asked = [name for name in dict.fromkeys((figure, *GUARDED)) if name in ratios]
    return {name: ratios[name] if name == THROUGHPUT else _turned_over(ratios[name]) for name in asked}


def _turned_over(ratio: Ratio) -> Ratio:
    return Ratio(1 / ratio.value, 1 / ratio.high, 1 / ratio.low, ratio.rounds)
