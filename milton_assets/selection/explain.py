"""Sentences: why this one, why not each other.

What belongs here: turning the numbers of a decision into sentences for somebody who was not there. What does not:
numbers, and how sentences are laid out (`card`).
"""

from __future__ import annotations

from collections.abc import Sequence

from milton_assets.selection.decision import Contribution, Standing
from milton_assets.selection.gates import Judgement

_STANDING = {
    Standing.FAILED: "failed a gate",
    Standing.INCONCLUSIVE: "left a strict gate inconclusive",
    Standing.NO_EVIDENCE: "could not be judged for lack of evidence",
}


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
    shown = [f"{j.candidate.version}: {'; '.join(j.reasons)}" for j in judgements[:20]]
    if len(judgements) > len(shown):
        shown.append(f"and {len(judgements) - len(shown)} more, each with its reasons in the decision")
    return (head, *shown)


def best_score(
    winner: str, score: float, eligible: int, stood: int, runner_up: tuple[str, float] | None, *, tied: bool
) -> str:
    """Why the head of the ranking is at its head."""
    pool = f"{eligible} of {stood} candidates {'is' if eligible == 1 else 'are'} eligible"
    if runner_up is None:
        return f"{winner} is the only eligible candidate ({pool}); being alone it scores {score:.3f}"
    if tied:
        return f"{winner} and {runner_up[0]} both score {score:.3f}; the tie-breaks prefer {winner} ({pool})"
    return (
        f"{winner} scores {score:.3f}, {score - runner_up[1]:.3f} ahead of {runner_up[0]} "
        f"with {runner_up[1]:.3f} ({pool})"
    )


def where_it_leads(winner: str, mine: Sequence[Contribution], other: str, theirs: Sequence[Contribution]) -> str:
    """On which criteria the winner gains and loses points against another."""
    gaps = [(m.label, m.points - t.points) for m, t in zip(mine, theirs, strict=True)]
    ahead = [f"{label} (+{gap:.3f})" for label, gap in gaps if gap > 0]
    behind = [f"{label} ({gap:.3f})" for label, gap in gaps if gap < 0]
    if not ahead and not behind:
        return f"{winner} and {other} are equal on every criterion"
    words = f"against {other}, {winner} "
    if ahead:
        words += f"gains on {', '.join(ahead)}"
    if behind:
        words += f"{' and ' if ahead else ''}loses on {', '.join(behind)}"
    return words


def behind_winner(
    place: int, score: float, mine: Sequence[Contribution], winner: str, top: float, theirs: Sequence[Contribution]
) -> str:
    """Why an eligible candidate did not win: how far behind, and where most of it was lost."""
    if score == top:
        return f"rank {place}: the same score as {winner}, which the tie-breaks prefer"
    losses = sorted(((t.points - m.points, m.label) for m, t in zip(mine, theirs, strict=True)), reverse=True)
    lost = ", ".join(f"{label} (-{gap:.3f})" for gap, label in losses if gap > 0)
    relation = f"{top - score:.3f} behind {winner}" if score < top else f"{score - top:.3f} ahead of {winner}"
    return f"rank {place}: {relation}" + (f"; gives away points on {lost}" if lost else "")
