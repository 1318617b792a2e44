"""The contest: who is eligible, how they compare, and what a policy makes of that.

    contest = enter(judgements, policy, Occasion(seed=..., incumbent=None, tiers=..., life=..., manifest=...))
    outcome = settle(contest, policy)

What belongs here: putting ranking, certainty, comparisons and choice together, so that one thing can be changed and
the outcome asked again (`sensitivity`). What does not: how each is computed, and the report (`decide`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
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
from milton_assets.selection.policy import Criterion, IncumbentRule, MarginKind, Policy
from milton_assets.selection.ranking import Pool, Ranking, rank
from milton_assets.selection.resample import Drawn, prepare, probability_best, unknown
from milton_assets.selection.scoring import Array
from milton_assets.vocabulary.evidence import EvidenceManifest
from milton_assets.vocabulary.ledger import Tally
from milton_assets.vocabulary.tier_spec import Tiers


@dataclass(frozen=True)
class Contest:
    """The eligible candidates and what is known of them before the policy's weights are applied, but for `shares`.

    `shares` are the probabilities of being best, None with the reason `unknown_because`. `serving` is the index of the
    incumbent, where the policy's rule protects it; `challenges` are the others against it, `tests`, by version, what
    the ledger keeps of them. `blind` is why nobody can be compared with an incumbent that could not be judged. `turns`
    are speeds in rounds in turn with the incumbent, by the key of their criterion, where somebody was measured so.
    """

    pool: Pool
    prepared: tuple[Drawn, ...]
    shares: Array | None
    unknown_because: str | None
    serving: int | None
    challenges: Challenges
    tests: Mapping[str, Mapping[str, Tally]]
    anchoring: Anchoring | None
    blind: str | None
    turns: Mapping[tuple[str, str], InTurn] = field(default_factory=dict)

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
        shares, serving = self.shares, self.serving
        if shares is not None:
            rest = np.delete(shares, index)
            shares = rest / rest.sum() if rest.any() else None
        if serving is not None:
            serving = None if serving == index else serving - (serving > index)
        return replace(
            self,
            pool=self.pool.without(index),
            prepared=tuple(drawn.without(index) for drawn in self.prepared),
            shares=shares,
            serving=serving,
        )


@dataclass(frozen=True)
class Occasion:
    """What a contest is held on, whoever stands: the seed of its resampling, the version that serves or None, the
    tiers, the incumbent's life, and the manifest that pins the evidence."""

    seed: int
    incumbent: str | None
    tiers: Tiers
    life: Life
    manifest: EvidenceManifest


@dataclass(frozen=True)
class Outcome:
    """What a policy makes of a contest."""

    ranking: Ranking
    confidence: Confidence
    choice: Choice


def enter(judgements: Sequence[Judgement], policy: Policy, occasion: Occasion) -> Contest:
    """Draw and compare the eligible among `judgements`, of whom there must be one."""
    seed, life = occasion.seed, occasion.life
    eligible = [judgement for judgement in judgements if judgement.eligible]
    metrics = [[j.readings[row].metric for j in eligible] for row in range(len(policy.criteria))]
    values = np.array([[metric.value for metric in row] for row in metrics], dtype=np.float64)
    pool = Pool(tuple(j.candidate.version for j in eligible), values)
    prepared = prepare([j.candidate for j in eligible], metrics, policy, occasion.tiers, life)
    unknown_because = unknown(prepared, pool.versions) if len(eligible) > 1 else None
    # The draws are numpy's, which lets other threads work; the comparisons are mostly Python's.
    with ThreadPoolExecutor(max_workers=1) as meanwhile:
        drawn = None
        if len(eligible) > 1 and unknown_because is None:
            drawn = meanwhile.submit(probability_best, prepared, policy, seed)
        against = _against_incumbent(judgements, prepared, pool, policy, occasion)
        shares = np.ones(1) if len(eligible) == 1 else None if drawn is None else drawn.result()
    return Contest(pool, prepared, shares, unknown_because, **against)


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
        manifest=occasion.manifest,
        life=life,
        tiers=occasion.tiers,
        seed=occasion.seed,
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
    """Rank, say how sure the ranking is, and choose."""
    ranking = rank(contest.pool, policy)
    sure = confidence(contest.pool, ranking, policy, contest.shares, contest.unknown_because)
    if contest.blind is not None:
        return Outcome(ranking, sure, Choice(Verdict.NO_VERDICT, None, (contest.blind,)))
    choice = choose(contest.pool, ranking, contest.prepared, policy, sure, contest.challenges, contest.serving)
    withheld = contest.anchoring.withheld if contest.anchoring else {}
    why = next((withheld[version] for version in contest.pool.versions if version in withheld), None)
    if choice.verdict is Verdict.REJECT and why is not None:
        # Whether the incumbent stays cannot be known before challengers are held to what they have to be.
        choice = Choice(Verdict.NO_VERDICT, None, (*choice.reasons, why))
    return Outcome(ranking, sure, choice)


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
