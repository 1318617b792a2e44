"""Simulated campaigns: evidence about models whose truth is known, to try decisions on.

What belongs here: drawing one campaign's evidence from the truth, and counting what a policy makes of many. What does
not: real evidence, and which trials are run (`benches/selection`).

The truth of one campaign: some cases are hard for the model and answered right by luck, the others always, and the
mean over cases is the model's pass rate; a query's nDCG@10 is the query's level plus the model's; speeds carry one
log-normal factor per campaign and candidate (the noise between campaigns) and one per request or round. Two models in
a campaign share cases and queries, as two real ones do. A model that is registered twice is simulated as answering
anew each time, which is harder to get right than greedy decoding that repeats itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.hearing import Heard, hear
from milton_assets.selection.life import Life
from milton_assets.selection.policy import Policy
from milton_assets.selection.scoring import Array
from milton_assets.statistics.multiplicity import holm
from milton_assets.statistics.normal import z_of_level
from milton_assets.statistics.samples import mean_interval
from milton_assets.statistics.shares import wilson
from milton_assets.vocabulary.beside import BESIDE, ROUNDS, Beside, RoundPair
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.evidence import CandidateEvidence, EvidenceManifest, EvidencePin
from milton_assets.vocabulary.fingerprint import Fingerprint
from milton_assets.vocabulary.ledger import Ledger
from milton_assets.vocabulary.metric import Interval, Metric
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Tiers

RUN_ID = "benchmark_20260111_142500"
SIMULATED = Fingerprint(host=None, host_absent_because="simulated", gpus_absent_because="simulated")
INCUMBENT, CHALLENGER = "incumbent", "challenger"


@dataclass(frozen=True)
class TrueModel:
    """What a model really is."""

    ttft_ms: float = 100.0
    output_tokens_per_s: float = 80.0
    pass_rate: float = 0.95
    ndcg: float = 0.62

    def better(self, metric: str, by: float) -> TrueModel:
        """The same model, better on one metric: by that share for speeds, by that much for quality."""
        changed = {
            "ttft_ms.median": {"ttft_ms": self.ttft_ms / (1 + by)},
            "output_tokens_per_s": {"output_tokens_per_s": self.output_tokens_per_s * (1 + by)},
            "cove_pass_rate": {"pass_rate": self.pass_rate + by},
            "nDCG@10": {"ndcg": self.ndcg + by},
        }[metric]
        return replace(self, **changed)


@dataclass(frozen=True)
class Design:
    """How large a campaign is, and how noisy. `between` is the relative noise of speeds between campaigns.

    With `answer_noise` each, and what lies beyond 0 and 1 cut, two models' nDCG@10 on a query differ by a standard
    deviation of 0.19; 0.16 to 0.22 was measured between quantisations of small models.
    """

    cases: int = 150
    queries: int = 60
    requests: int = 40
    rounds: int = 5
    between: float = 0.03
    within_requests: float = 0.15
    within_rounds: float = 0.02
    case_spread: float = 4.0
    query_spread: float = 0.25
    answer_noise: float = 0.147
    starts: float | None = None


def campaign(rng: np.random.Generator, models: Sequence[tuple[str, TrueModel]], design: Design) -> list[Candidate]:
    """One campaign over `models` (version, truth): what the tiers would have measured."""
    case_luck = rng.random(design.cases)
    levels = rng.normal(0, design.query_spread, design.queries)
    stood = [_candidate(rng, version, truth, design, case_luck, levels) for version, truth in models]
    if design.starts is None:
        return stood
    first, *others = models
    turned = [
        _beside(rng, one, truth, first, design, design.starts)
        for one, (_, truth) in zip(stood[1:], others, strict=True)
    ]
    return [stood[0], *turned]


def _beside(
    rng: np.random.Generator,
    candidate: Candidate,
    truth: TrueModel,
    serving: tuple[str, TrueModel],
    design: Design,
    starts: float,
) -> Candidate:
    """The candidate with rounds of one request in turn with what serves: each server as it was started."""
    version, theirs = serving
    within_request = design.within_rounds * math.sqrt(design.requests / design.rounds)
    luck = np.exp(rng.normal(0, starts, (2, 2)))

    def figures(model: TrueModel, luck: Array) -> dict[str, float]:
        ttft_ms = model.ttft_ms * luck[0] * math.exp(rng.normal(0, design.within_requests))
        rate = model.output_tokens_per_s * luck[1] * math.exp(rng.normal(0, within_request))
        return {"ttft_ms.median": float(ttft_ms), "output_tokens_per_s": float(rate)}

    rounds = tuple(RoundPair(mine=figures(truth, luck[0]), theirs=figures(theirs, luck[1])) for _ in range(ROUNDS))
    stated = Beside(version=version, artefact_sha256=sha256_bytes(version.encode()), rounds=rounds)
    timed = replace(candidate.tiers["inference"], provenance={BESIDE: stated.model_dump(mode="json")})
    return replace(candidate, tiers={**candidate.tiers, "inference": timed})


class Power(NamedTuple):
    """Of so many campaigns: in how many the policy promoted the challenger, in how many the tests alone, each campaign
    for itself and no score, would have shown it to be better and within every margin, and in how many of those the
    policy did not promote it."""

    promoted: int
    shown: int
    missed: int


def power(
    policy: Policy,
    incumbent: TrueModel,
    challenger: TrueModel,
    *,
    tiers: Tiers,
    campaigns: int,
    seed: int,
    design: Design | None = None,
    history: int = 0,
) -> Power:
    """In how many of the campaigns the policy promotes the challenger over the incumbent, when they first meet, beside
    what a textbook would say to the same campaigns: Holm at the rule's alpha, once.

    `history` is how many campaigns the incumbent was measured in before, so that the machine's noise is known.
    """
    promoted = shown = missed = 0
    for heard in _heard(policy, incumbent, challenger, tiers, campaigns, seed, design or Design(), history):
        wins = heard.winner == CHALLENGER
        by_tests = _shown_by_tests(heard)
        promoted, shown, missed = promoted + wins, shown + by_tests, missed + (by_tests and not wins)
    return Power(promoted, shown, missed)


def _shown_by_tests(heard: Heard) -> bool:
    """Whether today's tests alone show the challenger to be better and within every margin."""
    challenge, rule = heard.challenge(CHALLENGER), heard.policy.incumbent
    if challenge is None or rule is None:
        return False
    p_values = np.array([np.nan if one.p_value is None else one.p_value for one in challenge.differences])
    gains = np.array([one.difference or 0.0 for one in challenge.differences])
    better = bool((holm(p_values)[gains > 0] < rule.alpha).any())
    return better and all(one.non_inferior for one in challenge.differences)


def creep(
    policy: Policy,
    first: TrueModel,
    *,
    tiers: Tiers,
    faster: float,
    step: float,
    challengers: int,
    seed: int,
    design: Design,
    history: int,
    anchored: bool = True,
) -> list[TrueModel]:
    """Who serves, one after the other, when every challenger has `faster` more throughput than what serves, and `step`
    less of both qualities: whole decisions, each told by the ledger what those before it saw.

    `history` is how many campaigns the first was measured in alone, so that the machine's noise is known. Not
    `anchored`: the best that was ever deployed is forgotten between decisions, and challengers are held to the
    incumbent alone.
    """
    rng = np.random.default_rng(seed)
    ledger = remembered(rng, first, policy, design, campaigns=history, nonce=f"{seed}/history")
    known: dict[str, TierResult] = {}
    serving, served = INCUMBENT, [first]
    for number in range(challengers):
        now, version = served[-1], f"{CHALLENGER}-{number:03}"
        worse = now.better("output_tokens_per_s", faster).better("cove_pass_rate", -step).better("nDCG@10", -step)
        models = [(serving, now), (version, worse)]
        taken = _hear(rng, models, policy, tiers, design, f"{seed}/{number}", ledger, known, incumbent=serving)
        ledger = taken.ledger if anchored else taken.ledger.model_copy(update={"anchors": ()})
        if taken.winner == version:
            serving = version
            served.append(worse)
    return served


def remembered(
    rng: np.random.Generator, truth: TrueModel, policy: Policy, design: Design, *, campaigns: int, nonce: str
) -> Ledger:
    """What the ledger holds once the incumbent alone was measured in that many campaigns: how far its speeds vary.

    That is what as many decisions would hand on, but for the anchors, which the next one makes, and without taking
    them. Speeds are drawn anew for each campaign, answers once.
    """
    ledger = Ledger()
    stood = campaign(rng, [(INCUMBENT, truth)], design)[0]
    for past in range(campaigns):
        speeds = TierResult("inference", _speeds(rng, truth, design))
        stood = replace(stood, tiers={**stood.tiers, speeds.tier: speeds})
        life = Life.of(pinned([stood], policy, nonce=f"{nonce}/{past}", ledger=ledger), [stood], INCUMBENT, {})
        figures = [(one, (stood.version,), np.array([stood.metric(one).value])) for one in policy.criteria]
        ledger = life.after(figures, {})
    return ledger


def _heard(
    policy: Policy,
    incumbent: TrueModel,
    challenger: TrueModel,
    tiers: Tiers,
    campaigns: int,
    seed: int,
    design: Design,
    history: int,
) -> Iterator[Heard]:
    rng = np.random.default_rng(seed)
    for number in range(campaigns):
        ledger = remembered(rng, incumbent, policy, design, campaigns=history, nonce=f"{seed}/{number}/history")
        both = [(INCUMBENT, incumbent), (CHALLENGER, challenger)]
        yield _hear(rng, both, policy, tiers, design, f"{seed}/{number}", ledger, {})


def _hear(
    rng: np.random.Generator,
    models: Sequence[tuple[str, TrueModel]],
    policy: Policy,
    tiers: Tiers,
    design: Design,
    nonce: str,
    ledger: Ledger,
    known: dict[str, TierResult],
    incumbent: str = INCUMBENT,
) -> Heard:
    """Hear one campaign; `known` are the tables of those before, to which this one's are added."""
    stood = campaign(rng, models, design)
    evidence = pinned(stood, policy, nonce=nonce, ledger=ledger)
    known |= tables(stood, evidence)
    return hear(
        run_id=RUN_ID,
        candidates=stood,
        policy=policy,
        manifest=evidence,
        incumbent=incumbent,
        tiers=tiers,
        anchored=known,
    )


def pinned(
    candidates: Sequence[Candidate], policy: Policy, nonce: str = "", ledger: Ledger | None = None
) -> EvidenceManifest:
    """A manifest that pins every tier of every candidate; `nonce` makes its digest, hence the resampling, another.

    Each version has weights of its own. `ledger` is what the campaign before handed on.
    """
    digest, simulated = sha256_bytes(nonce.encode()), SIMULATED.digest()
    return EvidenceManifest(
        run_id=RUN_ID,
        created_at=datetime(2026, 1, 11, 14, 25, tzinfo=UTC),
        policy_name=policy.name,
        policy_sha256=policy.sha256,
        registry_sha256=digest,
        goldens={},
        fingerprints={simulated: SIMULATED.model_dump(mode="json")},
        ledger=ledger or Ledger(),
        candidates=tuple(
            CandidateEvidence(
                model_version=one.version,
                entry_sha256=digest,
                artefact_sha256=sha256_bytes(one.version.encode()),
                artefact_size_bytes=one.artefact_size_bytes,
                fingerprint_sha256=simulated,
                pins=tuple(_pin(one.version, tier, nonce) for tier in one.tiers),
            )
            for one in candidates
        ),
        tiers=tuple(dict.fromkeys(tier for one in candidates for tier in one.tiers)),
    )


def _pin(version: str, tier: str, nonce: str) -> EvidencePin:
    return EvidencePin(
        model_version=version,
        tier=tier,
        dagster_run_id="simulated",
        storage_id=1,
        data_version="1",
        uri=f"{tier}/{version}.parquet",
        sha256=sha256_bytes(f"{nonce}/{version}/{tier}".encode()),
    )


def tables(candidates: Sequence[Candidate], manifest: EvidenceManifest) -> dict[str, TierResult]:
    """The candidates' tables by the digests under which the manifest pins them."""
    measured = {one.version: one.tiers for one in candidates}
    return {pin.sha256: measured[pin.model_version][pin.tier] for pin in manifest.pins()}


def _candidate(
    rng: np.random.Generator, version: str, truth: TrueModel, design: Design, case_luck: Array, levels: Array
) -> Candidate:
    passed = rng.random(design.cases) < _case_rates(case_luck, truth.pass_rate, design.case_spread)
    ndcg = np.clip(truth.ndcg + levels + rng.normal(0, design.answer_noise, design.queries), 0, 1)
    ids = [f"case-{i:03}" for i in range(design.cases)]
    queries = [f"query-{i:03}" for i in range(design.queries)]
    tiers = (
        TierResult("inference", _speeds(rng, truth, design)),
        TierResult(
            "reasoning",
            (_share("cove_pass_rate", int(passed.sum()), design.cases),),
            pa.table({"part": ["cove"] * design.cases, "case_id": ids, "final_right": passed}),
        ),
        TierResult("retrieval", (_mean("nDCG@10", ndcg),), pa.table({"query_id": queries, "nDCG@10": ndcg})),
    )
    return Candidate(version, {result.tier: result for result in tiers}, 100_000_000)


def _case_rates(luck: Array, mean: float, spread: float) -> Array:
    """Each case's own rate: 1 for sure cases, 1 / `spread` for hard ones, so many that the mean is as given.

    A better model has fewer hard cases, and they are among those of a lesser one.
    """
    hard = (1 - mean) / (1 - 1 / spread)
    return np.where(luck < hard, 1 / spread, 1.0)


def _speeds(rng: np.random.Generator, truth: TrueModel, design: Design) -> tuple[Metric, Metric]:
    luck = np.exp(rng.normal(0, design.between, 2))
    requests = truth.ttft_ms * luck[0] * np.exp(rng.normal(0, design.within_requests, design.requests))
    rounds = truth.output_tokens_per_s * luck[1] * np.exp(rng.normal(0, design.within_rounds, design.rounds))
    median = float(np.median(requests))
    # The median's standard error under a normal law is sqrt(pi / 2) of the mean's.
    half = z_of_level(0.95) * math.sqrt(math.pi / 2) * float(requests.std(ddof=1)) / math.sqrt(len(requests))
    return figure("ttft_ms.median", "ms", median, half, len(requests)), _mean(
        "output_tokens_per_s", rounds, unit="tokens/s"
    )


def _mean(name: str, values: Array, unit: str = "fraction") -> Metric:
    interval = mean_interval(values)
    if interval is None:
        raise ValueError(f"{name} is a mean of {len(values)} value, which has no interval")
    return figure(name, unit, float(values.mean()), (interval.high - interval.low) / 2, len(values))


def _share(name: str, successes: int, n: int) -> Metric:
    return Metric.measured(name, "fraction", successes / n, n=n, interval=wilson(successes, n))


def figure(name: str, unit: str, value: float, half: float, n: int = 100) -> Metric:
    """A measured figure with a symmetric interval, cut at 0."""
    interval = Interval(low=max(value - half, 0.0), high=value + half, method="student_t")
    return Metric.measured(name, unit, value, n=n, interval=interval)
