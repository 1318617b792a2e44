"""Whether a candidate's speed is that of what users will get: held against its own other requests and its relatives.

What belongs here: the rules by which all figures of the tier that takes times become invalid, each with its limit. What
does not: a figure's own validity (the tier's), and what follows from an invalid figure (`gates`).

Two cheats leave the timing runs' own samples spotless. A chat template that drops the prompt of a timing run leaves the
server little to read, which its count of prompt tokens tells: candidates with one tokenizer must count about alike for
one prompt. And a server that knows a timing run by its prompts can be fast in those alone: so the calls of the tiers
that ask questions are held against what the timed figures foretell, for as many prompt and output tokens and under as
many requests at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final

from milton_assets.selection.candidate import Candidate
from milton_assets.statistics.samples import medians_of_others
from milton_assets.vocabulary.evidence import EvidenceManifest
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Needs, Tiers

FEWEST_OF_PROMPT: Final = 0.6
"""Of the tokens that relatives count for a prompt; templates of one model differ by less."""
MOST_SLOWER: Final = 3.0
MOST_SLOWER_ALONE: Final = 5.0
"""How much slower than foretold: beside other candidates, who were as busy, and alone."""
MOST_SLOWER_THAN_OTHERS: Final = 2.0
LEAST_EXCESS_MS: Final = 50.0
"""Of a call: less is what clients and networks add."""
_TIMED = ("phase", "ok", "prompt_id", "prompt_tokens", "ttft_ms", "tpot_ms")
_ASKED = ("calls", "elapsed_ms", "prompt_tokens", "completion_tokens")


def without_doubtful_speeds(
    candidates: Sequence[Candidate], manifest: EvidenceManifest, tiers: Tiers
) -> list[Candidate]:
    """The candidates, with the timed figures of each invalid whose speed is in doubt, with every reason."""
    timed = {candidate.version: found for candidate in candidates if (found := _timed(candidate, tiers)) is not None}
    doubts: dict[str, list[str]] = {}
    for version, why in (
        *_dropped_prompts(candidates, manifest, timed),
        *_fast_when_timed(candidates, tiers, timed),
    ):
        doubts.setdefault(version, []).append(why)
    taking = [name for name, spec in tiers.items() if spec.needs is Needs.ENDPOINT]
    return [
        _doubted(candidate, taking, "; ".join(doubts[candidate.version])) if candidate.version in doubts else candidate
        for candidate in candidates
    ]


def _doubted(candidate: Candidate, timed: Sequence[str], why: str) -> Candidate:
    judged = dict(candidate.tiers)
    for tier in timed:
        if tier in judged:
            metrics = tuple(m.invalidated(why) if m.status is Status.OK else m for m in judged[tier].metrics)
            judged[tier] = replace(judged[tier], metrics=metrics)
    return replace(candidate, tiers=judged)


def _dropped_prompts(
    candidates: Sequence[Candidate], manifest: EvidenceManifest, timed: Mapping[str, _Timed]
) -> Iterator[tuple[str, str]]:
    tokenizer_of = {one.model_version: one.lineage.tokenizer_sha256 for one in manifest.candidates}
    families: dict[str, dict[str, dict[str, float]]] = {}  # by tokenizer, then by prompt, then by version
    for candidate in candidates:
        tokenizer = tokenizer_of.get(candidate.version)
        if tokenizer is not None and candidate.version in timed:
            family = families.setdefault(tokenizer, {})
            for prompt, count in timed[candidate.version].counted.items():
                family.setdefault(prompt, {})[candidate.version] = count
    for family in families.values():
        shares: dict[str, list[float]] = {}
        for counts in family.values():
            for version, usual in medians_of_others(counts).items():
                if usual:
                    shares.setdefault(version, []).append(counts[version] / usual)
        for version, mine in shares.items():
            if (share := median(mine)) < FEWEST_OF_PROMPT:
                yield (
                    version,
                    f"it counts {share:.0%} of the prompt tokens that candidates with the same tokenizer count for the "
                    "same timing prompts: most of a prompt never reached the model",
                )


@dataclass(frozen=True)
class _Own:
    """A candidate's calls outside of timing: how many times as long as foretold they took, and by how much a call."""

    tier: str
    slower: float
    excess_ms: float


def _fast_when_timed(
    candidates: Sequence[Candidate], tiers: Tiers, timed: Mapping[str, _Timed]
) -> Iterator[tuple[str, str]]:
    found = {
        candidate.version: own
        for candidate in candidates
        if candidate.version in timed and (own := _own_requests(candidate, tiers, timed[candidate.version])) is not None
    }
    usual = medians_of_others({version: own.slower for version, own in found.items()})
    for version, own in found.items():
        limit = max(MOST_SLOWER, MOST_SLOWER_THAN_OTHERS * usual[version]) if version in usual else MOST_SLOWER_ALONE
        if own.slower > limit and own.excess_ms > LEAST_EXCESS_MS:
            yield (
                version,
                f"its answers in {own.tier} took {own.slower:.1f} times as long as its timed figures foretell, "
                f"{own.excess_ms:.0f} ms more a call: it may be fast only while it is timed",
            )


def _own_requests(candidate: Candidate, tiers: Tiers, timed: _Timed) -> _Own | None:
    if not (timed.ttft_ms > 0 and timed.tpot_ms >= 0 and timed.prompt_tokens > 0):  # NaN, of nothing, is neither
        return None
    for tier, result in candidate.tiers.items():
        if tiers[tier].needs is not Needs.CHAT or (rows := _rows(result, _ASKED)) is None:
            continue
        busier = max(1.0, _at_once(result, "plan") / timed.at_once)
        slower, excess_ms = [], []
        for row in rows:
            told, elapsed_ms, prompt_tokens, completion_tokens = row
            if (calls := _count(told)) <= 0 or not all(map(_is_number, row[1:])):
                continue
            read = max(1.0, prompt_tokens / calls / timed.prompt_tokens)
            foretold_ms = (calls * timed.ttft_ms * read + completion_tokens * timed.tpot_ms) * busier
            slower.append(elapsed_ms / foretold_ms)
            excess_ms.append((elapsed_ms - foretold_ms) / calls)
        if len(slower) >= 2:
            return _Own(tier, median(slower), median(excess_ms))
    return None


@dataclass(frozen=True)
class _Timed:
    """The good measured requests of the tier that takes times: medians, NaN where nothing was taken, the tokens counted
    for each prompt, and how many requests were made at once."""

    ttft_ms: float
    tpot_ms: float
    prompt_tokens: float
    counted: Mapping[str, float]
    at_once: float


def _timed(candidate: Candidate, tiers: Tiers) -> _Timed | None:
    """None where the candidate's table holds no such rows."""
    for tier, result in candidate.tiers.items():
        if tiers[tier].needs is not Needs.ENDPOINT or (rows := _rows(result, _TIMED)) is None:
            continue
        good = [row[2:] for row in rows if row[0] == "measured" and row[1]]
        counted: dict[str, list[float]] = {}
        for prompt, tokens, *_ in good:
            if prompt is not None and _is_number(tokens):
                counted.setdefault(prompt, []).append(tokens)
        _, tokens, ttft_ms, tpot_ms = ([row[place] for row in good if _is_number(row[place])] for place in range(4))
        return _Timed(
            ttft_ms=median(ttft_ms) if ttft_ms else math.nan,
            tpot_ms=median(tpot_ms) if tpot_ms else math.nan,
            prompt_tokens=median(tokens) if tokens else math.nan,
            counted={prompt: median(told) for prompt, told in counted.items()},
            at_once=_at_once(result, "load"),
        )
    return None


def _rows(result: TierResult, names: Sequence[str]) -> list[tuple[Any, ...]] | None:
    """The samples' rows in those columns; None where one is missing."""
    columns = []
    for name in names:
        if (column := result.column(name)) is None:
            return None
        columns.append(column)
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not math.isnan(value)


def _at_once(result: TierResult, part: str) -> float:
    stated: Any = result.provenance.get(part)
    at_once = stated.get("concurrency") if isinstance(stated, Mapping) else None
    return float(at_once) if isinstance(at_once, int | float) and at_once >= 1 else 1.0


def _count(calls: object) -> int:
    """How many calls a row made: its column holds them as JSON objects, each with the step that it was."""
    return calls.count('"step": ') if isinstance(calls, str) else 0
