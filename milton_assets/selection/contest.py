"""The contest: who is eligible, how they compare, and what a policy makes of that.

    contest = enter(judgements, policy, Occasion(seed=..., incumbent=None, tiers=..., life=..., manifest=...))
    outcome = settle(contest, policy)

What belongs here: putting ranking, certainty, comparisons and choice together, so that one thing can be changed and
the outcome asked again (`sensitivity`). What does not: how each is computed, and the report (`decide`).

P(best) is most of the work, and under a policy that lets the score decide it changes no winner: it is drawn when
somebody asks for it, the record or a policy that needs it (ADR 286).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypedDict

import numpy as np

from milton_assets.selection.anchoring import Anchoring, anchor
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.choose import Challenges, Choice, choose, confidence
from milton_assets.selection.compare import challenge
from milton_assets.selection.decision import Confidence, Standing, Verdict
from milton_assets.selection.gates import Judgement
from milton_assets.selection.in_turn import InTurn, in_turn
from milton_assets.selection.life import Life
from milton_assets.selection.occasion import Occasion
from milton_assets.selection.policy import Criterion, IncumbentRule, MarginKind, Policy
from milton_assets.selection.ranking import Pool, Ranking, rank
from milton_assets.selection.resample import Drawn, prepare, probability_best, unknown
from milton_assets.selection.scoring import Array
from milton_assets.vocabulary.ledger import Tally


@dataclass(frozen=True)
class Contest:
    """The eligible candidates and what is known of them before the policy's weights are applied, but for `shares`.

    `draw_shares` makes `shares`, None where `unknown_because` says why. `serving` is the index of the
    incumbent, where the policy's rule protects it; `challenges` are the others against it, `tests`, by version, what
    the ledger keeps of them. `blind` is why nobody can be compared with an incumbent that could not be judged. `turns`
    are speeds in rounds in turn with the incumbent, by the key of their criterion, where somebody was measured so.
    """

    pool: Pool
    prepared: tuple[Drawn, ...]
    draw_shares: Callable[[], Array | None]
    unknown_because: str | None
    serving: int | None
    challenges: Challenges
    tests: Mapping[str, Mapping[str, Tally]]
    anchoring: Anchoring | None
    blind: str | None
    turns: Mapping[tuple[str, str], InTurn] = field(default_factory=dict)

    @cached_property
    def shares(self) -> Array | None:
        """The probabilities of being best, drawn when they are first asked for."""
        return self.draw_shares()

    @property
    def measured(self) -> list[tuple[Criterion, tuple[str, ...], Array]]:
        """Each criterion with the versions and their figures."""
        return [(drawn.criterion, self.pool.versions, drawn.values) for drawn in self.prepared]

    @property
    def measured_in_turn(self) -> list[tuple[Criterion, tuple[str, ...], Array]]:
        """Each speed with the versions and their gains in rounds in turn with the incumbent, NaN where there were
        none."""
        return [(turns.criterion, self.pool.versions, turns.gain) for turns in self.turns.values()]

    def without(self, index: int) -> Contest:
        """The contest with that candidate left out, and all else held.

        The comparisons stay as they were corrected for everybody; the share of the one left out goes to the others in
        proportion to theirs.
        """
        serving = self.serving
        if serving is not None:
            serving = None if serving == index else serving - (serving > index)
        return replace(
            self,
            pool=self.pool.without(index),
            prepared=tuple(drawn.without(index) for drawn in self.prepared),
            draw_shares=lambda: self._shares_without(index),
            serving=serving,
        )

    def _shares_without(self, index: int) -> Array | None:
        if self.shares is None:
            return None
        rest = np.delete(self.shares, index)
        return rest / rest.sum() if rest.any() else None


@dataclass(frozen=True)
class Outcome:
    """What a policy makes of a contest."""

    contest: Contest
    policy: Policy
    ranking: Ranking

    @cached_property
    def confidence(self) -> Confidence:
        """How sure the ranking is."""
        contest = self.contest
        return confidence(contest.pool, self.ranking, self.policy, contest.shares, contest.unknown_because)

    @cached_property
    def choice(self) -> Choice:
        """What is done."""
        contest, ranking = self.contest, self.ranking
        if (blind := contest.blind) is not None:
            return Choice(Verdict.NO_VERDICT, None, lambda: (blind,))
        choice = choose(
            contest.pool,
            ranking,
            contest.prepared,
            self.policy,
            lambda: self.confidence,
            contest.challenges,
            contest.serving,
        )
        withheld = contest.anchoring.withheld if contest.anchoring else {}
        why = next((withheld[version] for version in contest.pool.versions if version in withheld), None)
        if choice.verdict is Verdict.REJECT and why is not None:
            # Whether the incumbent stays cannot be known before challengers are held to what they have to be.
            return Choice(Verdict.NO_VERDICT, None, lambda: (*choice.reasons, why))
        return choice


def enter(
    judgements: Sequence[Judgement], policy: Policy, occasion: Occasion, meanwhile: Executor | None = None
) -> Contest:
    """Compare the eligible among `judgements`, of whom there must be one.

    `meanwhile` is where P(best) is drawn at once, for who will ask for it: the draws are numpy's, which lets other
    threads work, and the comparisons mostly Python's (ADR 229).
    """
    eligible = [judgement for judgement in judgements if judgement.eligible]
    metrics = [[j.readings[row].metric for j in eligible] for row in range(len(policy.criteria))]
    values = np.array([[metric.value for metric in row] for row in metrics], dtype=np.float64)
    pool = Pool(tuple(j.candidate.version for j in eligible), values)
    prepared = prepare([j.candidate for j in eligible], metrics, policy, occasion.tiers, occasion.life)
    unknown_because = unknown(prepared, pool.versions) if len(eligible) > 1 else None

    def draw_shares() -> Array | None:
        if len(eligible) == 1:
            return np.ones(1)
        return None if unknown_because is not None else probability_best(prepared, policy, occasion.seed)

    if meanwhile is not None:
        draw_shares = meanwhile.submit(draw_shares).result
    against = _against_incumbent(judgements, prepared, pool, policy, occasion)
    return Contest(pool, prepared, draw_shares, unknown_because, **against)


class _Against(TypedDict):
    """What a contest knows of the others against the incumbent."""

    serving: int | None
    challenges: Challenges
    tests: Mapping[str, Mapping[str, Tally]]
    anchoring: Anchoring | None
    blind: str | None
    turns: Mapping[tuple[str, str], InTurn]


def _against_incumbent(
    judgements: Sequence[Judgement], prepared: tuple[Drawn, ...], pool: Pool, policy: Policy, occasion: Occasion
) -> _Against:
    nobody: _Against = {
        "serving": None,
        "challenges": Challenges(),
        "tests": {},
        "anchoring": None,
        "blind": None,
        "turns": {},
    }
    incumbent, life, rule = occasion.incumbent, occasion.life, policy.incumbent
    if rule is None or incumbent is None:
        return nobody
    if incumbent not in pool.versions:
        return {**nobody, "blind": _unjudged(judgements, incumbent)}
    eligible = [judgement.candidate for judgement in judgements if judgement.eligible]
    serving, draws = pool.versions.index(incumbent), policy.certainty.draws
    turns = _in_turn(eligible, prepared, rule, life)
    challenged = challenge(
        prepared, rule, pool.versions, serving, draws=draws, seed=occasion.seed, life=life, turns=turns
    )
    anchoring = anchor(
        eligible,
        [judgement.candidate for judgement in judgements],
        policy,
        rule,
        prepared,
        serving,
        challenged.challenges,
        occasion=occasion,
        turns=turns,
    )
    return {
        "serving": serving,
        "challenges": Challenges(anchoring.challenges),
        "tests": challenged.tests,
        "anchoring": anchoring,
        "blind": None,
        "turns": turns,
    }


def _in_turn(
    candidates: Sequence[Candidate], prepared: Sequence[Drawn], rule: IncumbentRule, life: Life
) -> dict[tuple[str, str], InTurn]:
    """The rule's speeds in rounds in turn, where somebody was measured so."""
    speeds = {margin.key for margin in rule.margins if margin.kind is MarginKind.RELATIVE}
    asked = (in_turn(candidates, one.criterion, life.incumbent) for one in prepared if one.criterion.key in speeds)
    return {turns.criterion.key: turns for turns in asked if not np.isnan(turns.gain).all()}


def settle(contest: Contest, policy: Policy) -> Outcome:
    """Rank, and choose when asked."""
    return Outcome(contest, policy, rank(contest.pool, policy))


def verdict_on_nobody(judgements: Sequence[Judgement]) -> Verdict:
    """The verdict where nobody is eligible: known only if somebody failed a gate."""
    failed = any(judgement.standing is Standing.FAILED for judgement in judgements)
    return Verdict.REJECT if failed else Verdict.NO_VERDICT


def _unjudged(judgements: Sequence[Judgement], version: str) -> str | None:
    """Why nobody can be compared with that version, if it stood and could not be judged."""
    for judgement in judgements:
        if judgement.candidate.version == version and judgement.standing is not Standing.FAILED:
            why = "; ".join(judgement.reasons)
            return f"{version}, which serves today, could not be judged, so nobody can be shown to be better: {why}"
    return None
