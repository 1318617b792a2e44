"""Sentences: why this one, why not each other.

What belongs here: turning the numbers of a decision into sentences for somebody who was not there. What does not:
numbers, and how sentences are laid out (`card`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from milton_assets.selection.decision import Challenge, Standing
from milton_assets.selection.gates import Judgement

_STANDING = {
    Standing.FAILED: "failed a gate",
    Standing.INCONCLUSIVE: "left a strict gate inconclusive",
    Standing.NO_EVIDENCE: "could not be judged for lack of evidence",
}
_SHOWN = 20


@dataclass(frozen=True)
class Placed:
    """A scored candidate, as far as sentences need it: `points` are what each of the criteria `labels` adds."""

    version: str
    score: float
    labels: Sequence[str]
    points: Sequence[float]


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def nobody_eligible(judgements: Sequence[Judgement], *, known: bool) -> tuple[str, ...]:
    """Why no candidate is eligible: how many for what, then each with its reasons (the first 20 of them)."""
    if not judgements:
        return ("no candidate stood: the run measured nothing",)
    counts = []
    for standing, words in _STANDING.items():
        if count := sum(1 for judgement in judgements if judgement.standing is standing):
            counts.append(f"{count} {words}")
    head = f"none of {len(judgements)} candidates is eligible: {', '.join(counts)}"
    if not known:
        head += "; what was not measured, or not surely enough, cannot be decided"
    shown = [f"{j.candidate.version}: {'; '.join(j.reasons)}" for j in judgements[:_SHOWN]]
    if len(judgements) > len(shown):
        shown.append(f"and {len(judgements) - len(shown)} more, each with its reasons in the decision")
    return (head, *shown)


def best_score(head: Placed, eligible: int, stood: int, runner_up: Placed | None) -> str:
    """Why the head of the ranking is at its head."""
    pool = f"{eligible} of {stood} candidates {'is' if eligible == 1 else 'are'} eligible"
    if runner_up is None:
        return f"{head.version} is the only eligible candidate ({pool}): there was nobody to compare it with"
    if head.score == runner_up.score:
        both = f"{head.version} and {runner_up.version} both score {head.score:.3f}"
        return f"{both}; the tie-breaks put {head.version} first ({pool})"
    ahead = f"{head.score - runner_up.score:.3f} ahead of {runner_up.version} with {runner_up.score:.3f}"
    return f"{head.version} scores {head.score:.3f}, {ahead} ({pool})"


def where_it_leads(head: Placed, other: Placed) -> str:
    """On which criteria the head of the ranking gains and loses points against another."""
    gaps = [(label, m - t) for label, m, t in zip(head.labels, head.points, other.points, strict=True)]
    ahead = [f"{label} (+{gap:.3f})" for label, gap in gaps if gap > 0]
    behind = [f"{label} ({gap:.3f})" for label, gap in gaps if gap < 0]
    if not ahead and not behind:
        return f"{head.version} and {other.version} are equal on every criterion"
    parts = [f"gains on {', '.join(ahead)}"] if ahead else []
    parts += [f"loses on {', '.join(behind)}"] if behind else []
    return f"against {other.version}, {head.version} {' and '.join(parts)}"


def not_chosen(place: int, mine: Placed, best: Placed, challenge: Challenge | None) -> str:
    """Why an eligible candidate was not chosen; `best` is the winner, or the head of the ranking when nobody won."""
    words = f"rank {place}"
    if mine.version != best.version:
        words += f": {_against(mine, best)}"
    if challenge is not None and not challenge.replaces:
        words += f"; may not replace {challenge.incumbent}: {challenge.why}"
    return words


def _against(mine: Placed, best: Placed) -> str:
    if mine.score == best.score:
        return f"the same score as {best.version}, which the tie-breaks put first"
    gaps = zip(mine.labels, mine.points, best.points, strict=True)
    losses = sorted([(b - m, label) for label, m, b in gaps if b > m], reverse=True)
    lost = ", ".join([f"{label} (-{gap:.3f})" for gap, label in losses])
    behind = mine.score < best.score
    gap = abs(best.score - mine.score)
    words = f"{gap:.3f} {'behind' if behind else 'ahead of'} {best.version}"
    return f"{words}; gives away points on {lost}" if lost else words
