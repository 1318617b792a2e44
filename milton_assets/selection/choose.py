"""From ranking, certainty and comparisons to one choice.

What belongs here: how sure the ranking's head is, and the one rule that picks the winner. What does not: numbers
(`resample`, `compare`), and sentences about single candidates (`explain`).

How sure it is costs many draws, and is asked for where the choice depends on it, and for the sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from milton_assets.selection.decision import Challenge, Confidence, SecondOpinion, Verdict
from milton_assets.selection.explain import some
from milton_assets.selection.policy import Policy, WhenUnclear
from milton_assets.selection.ranking import Pool, Ranking, rank
from milton_assets.selection.resample import Drawn
from milton_assets.selection.scoring import Array
from milton_assets.selection.tie_breaks import prefer


@dataclass(frozen=True)
class Choice:
    """What is done: the verdict, the index of the winner in the pool, and `explain`, which says why in sentences."""

    verdict: Verdict
    winner: int | None
    explain: Callable[[], tuple[str, ...]]

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        """Why, in sentences, made when they are first asked for."""
        return self.explain()


@dataclass(frozen=True)
class Challenges:
    """The challenges to the incumbent by version, and whom they let pass, found once for every choice among them."""

    by_version: Mapping[str, Challenge] = field(default_factory=dict)

    @cached_property
    def replacing(self) -> frozenset[str]:
        """Who may replace the incumbent."""
        return frozenset(version for version, one in self.by_version.items() if one.replaces)

    @cached_property
    def outdoing(self) -> frozenset[str]:
        """Who may, and is shown to be worse on nothing."""
        return frozenset(version for version, one in self.by_version.items() if one.outdoes)


def confidence(
    pool: Pool, ranking: Ranking, policy: Policy, shares: Array | None, unknown_because: str | None
) -> Confidence:
    """How sure the head of the ranking is. `shares` are the probabilities of being best, None when unknown."""
    head = pool.versions[int(ranking.order[0])]
    opinion = _second_opinion(pool, policy)
    contenders = [head] if shares is None else _contenders(pool, shares, policy.certainty.clear_at)
    extra = [opinion.winner] if opinion and opinion.winner not in contenders else []
    agree = opinion is None or opinion.winner == head
    sure = shares is not None and float(shares[int(ranking.order[0])]) >= policy.certainty.clear_at
    return Confidence(
        clear=agree and sure,
        clear_at=policy.certainty.clear_at,
        draws=policy.certainty.draws if shares is not None and len(pool.versions) > 1 else 0,
        contenders=tuple(contenders + extra),
        second_opinion=opinion,
        unknown_because=unknown_because,
        why=_how_sure(head, shares, ranking, policy, opinion, alone=len(pool.versions) == 1),
    )


def choose(
    pool: Pool,
    ranking: Ranking,
    prepared: Sequence[Drawn],
    policy: Policy,
    sure: Callable[[], Confidence],
    challenges: Challenges,
    incumbent: int | None,
) -> Choice:
    """The winner, if any.

    Admissible is everybody, or, where the incumbent rule applies (`incumbent` is then its index), the incumbent and
    whoever may replace it; but not the incumbent itself, whatever its score, against a challenger that is shown to be
    better and to be worse on nothing. A clear head, or policy `score`: the best admissible. Otherwise the tie-breaks
    choose among the admissible contenders, or among all who are admissible where no contender is; or nothing is
    promoted. An incumbent that is chosen stays, which promotes nothing.
    """
    order: list[int] = ranking.order.tolist()
    versions, replacing, outdoing = pool.versions, challenges.replacing, challenges.outdoing
    admissible = order if incumbent is None else [i for i in order if i == incumbent or versions[i] in replacing]
    if outdoing and any(versions[i] in outdoing for i in admissible):
        # Min-max makes each criterion of two candidates win or lose: what is shown is not overruled by what is not.
        admissible = [i for i in admissible if i != incumbent]
    when_unclear = policy.certainty.when_unclear
    unclear = when_unclear is not WhenUnclear.SCORE and not sure().clear
    if unclear and when_unclear is WhenUnclear.NOTHING:
        return Choice(
            Verdict.NO_VERDICT,
            None,
            lambda: (f"no clear winner among {some(sure().contenders)}, and the policy then promotes nothing",),
        )
    contenders: list[int] = []
    if unclear:
        named = frozenset(sure().contenders)
        contenders = [i for i in admissible if versions[i] in named]
    chosen = prefer(prepared, policy, contenders or admissible) if unclear else admissible[0]
    stays = incumbent is not None and chosen == incumbent

    def explain() -> tuple[str, ...]:
        head = versions[order[0]]
        reasons = [_stays(pool, challenges.by_version, chosen, head)] if stays else []
        if unclear:
            among = some(sure().contenders) + ("" if contenders else ", and none of them may replace the incumbent")
            reasons.append(f"no clear winner among {among}: the policy's tie-breaks prefer {versions[chosen]}")
        elif not sure().clear:
            reasons.append(f"no clear winner: {head} leads, but not surely, and the policy lets the score decide")
        if incumbent is not None and not stays:
            may = challenges.by_version[versions[chosen]].why
            reasons.append(f"{versions[chosen]} may replace {versions[incumbent]}, which serves today: {may}")
        return tuple(reasons)

    return Choice(Verdict.REJECT if stays else Verdict.PROMOTE, None if stays else chosen, explain)


def _stays(pool: Pool, challenges: Mapping[str, Challenge], incumbent: int, head: str) -> str:
    serving = pool.versions[incumbent]
    if head == serving:
        return f"{serving}, which serves today, stays: it leads the ranking"
    if challenges[head].replaces:
        return f"{serving}, which serves today, stays: {head} leads the ranking and might replace it, but not clearly"
    return f"{serving}, which serves today, stays: {head} leads the ranking, but {challenges[head].why}"


def _second_opinion(pool: Pool, policy: Policy) -> SecondOpinion | None:
    if policy.second_opinion is None:
        return None
    other = rank(pool, policy, normalisation=policy.second_opinion)
    return SecondOpinion(normalisation=policy.second_opinion, winner=pool.versions[int(other.order[0])])


def _contenders(pool: Pool, shares: Array, enough: float) -> list[str]:
    """The fewest candidates whose shares sum to `enough`, likeliest first, equal shares by version."""
    order = np.argsort(-shares, kind="stable")
    needed = int(np.searchsorted(np.cumsum(shares[order]), enough - 1e-9)) + 1
    return [pool.versions[int(index)] for index in order[:needed]]


def _how_sure(
    head: str, shares: Array | None, ranking: Ranking, policy: Policy, opinion: SecondOpinion | None, *, alone: bool
) -> str:
    if alone:
        return f"{head} had nobody to be compared with"
    if shares is None:
        return f"how sure the lead of {head} is cannot be said"
    share = float(shares[int(ranking.order[0])])
    words = (
        f"{head} is best in {share:.1%} of {policy.certainty.draws} resamplings of the evidence "
        f"({policy.certainty.clear_at:.0%} would be clear)"
    )
    if opinion is None:
        return words
    if opinion.winner == head:
        return f"{words}; normalised the other way ({opinion.normalisation}) it leads too"
    return f"{words}; normalised the other way ({opinion.normalisation}) {opinion.winner} would lead"
