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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final

import pandas as pd

from milton_assets.selection.candidate import Candidate
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
    doubts: dict[str, list[str]] = {}
    for version, why in (*_dropped_prompts(candidates, manifest, tiers), *_fast_when_timed(candidates, tiers)):
        doubts.setdefault(version, []).append(why)
    timed = [name for name, spec in tiers.items() if spec.needs is Needs.ENDPOINT]
    return [
        _doubted(candidate, timed, "; ".join(doubts[candidate.version])) if candidate.version in doubts else candidate
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
    candidates: Sequence[Candidate], manifest: EvidenceManifest, tiers: Tiers
) -> Iterator[tuple[str, str]]:
    tokenizer_of = {one.model_version: one.lineage.tokenizer_sha256 for one in manifest.candidates}
    relatives: dict[str, dict[str, Mapping[str, float]]] = {}
    for candidate in candidates:
        tokenizer = tokenizer_of.get(candidate.version)
        frame = _timed_samples(candidate, tiers)
        if tokenizer is not None and frame is not None:
            counted = frame.dropna(subset=["prompt_tokens"]).groupby("prompt_id")["prompt_tokens"].median()
            relatives.setdefault(tokenizer, {})[candidate.version] = counted.to_dict()
    for family in relatives.values():
        for version, counts in family.items():
            shares = []
            for prompt, count in counts.items():
                others = [told[prompt] for name, told in family.items() if name != version and prompt in told]
                if others and (usual := median(others)):
                    shares.append(count / usual)
            if shares and (share := median(shares)) < FEWEST_OF_PROMPT:
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


def _fast_when_timed(candidates: Sequence[Candidate], tiers: Tiers) -> Iterator[tuple[str, str]]:
    found = {candidate.version: own for candidate in candidates if (own := _own_requests(candidate, tiers)) is not None}
    for version, own in found.items():
        others = [other.slower for name, other in found.items() if name != version]
        limit = max(MOST_SLOWER, MOST_SLOWER_THAN_OTHERS * median(others)) if others else MOST_SLOWER_ALONE
        if own.slower > limit and own.excess_ms > LEAST_EXCESS_MS:
            yield (
                version,
                f"its answers in {own.tier} took {own.slower:.1f} times as long as its timed figures foretell, "
                f"{own.excess_ms:.0f} ms more a call: it may be fast only while it is timed",
            )


def _own_requests(candidate: Candidate, tiers: Tiers) -> _Own | None:
    frame = _timed_samples(candidate, tiers)
    if frame is None:
        return None
    ttft_ms, tpot_ms, prompt_tokens = (float(frame[name].median()) for name in ("ttft_ms", "tpot_ms", "prompt_tokens"))
    if not (ttft_ms > 0 and tpot_ms >= 0 and prompt_tokens > 0):  # a median of nothing is NaN, which is neither
        return None
    timed_at_once = _at_once(next(r for n, r in candidate.tiers.items() if tiers[n].needs is Needs.ENDPOINT), "load")
    for tier, result in candidate.tiers.items():
        if tiers[tier].needs is not Needs.CHAT or not set(_ASKED) <= set(result.samples.columns):
            continue
        asked = result.samples.dropna(subset=list(_ASKED))
        calls = asked["calls"].map(_count)
        asked, calls = asked[calls > 0], calls[calls > 0]
        if len(asked) < 2:
            continue
        read = (asked["prompt_tokens"] / calls / prompt_tokens).clip(lower=1.0)
        busier = max(1.0, _at_once(result, "plan") / timed_at_once)
        foretold_ms = (calls * ttft_ms * read + asked["completion_tokens"] * tpot_ms) * busier
        slower = float((asked["elapsed_ms"] / foretold_ms).median())
        excess_ms = float(((asked["elapsed_ms"] - foretold_ms) / calls).median())
        return _Own(tier, slower, excess_ms)
    return None


def _timed_samples(candidate: Candidate, tiers: Tiers) -> pd.DataFrame | None:
    """The good measured requests of the tier that takes times; None where its table holds no such rows."""
    for tier, result in candidate.tiers.items():
        if tiers[tier].needs is Needs.ENDPOINT and set(_TIMED) <= set(result.samples.columns):
            frame = result.samples
            return frame[(frame["phase"] == "measured") & frame["ok"].astype(bool)]
    return None


def _at_once(result: TierResult, part: str) -> float:
    stated: Any = result.provenance.get(part)
    at_once = stated.get("concurrency") if isinstance(stated, Mapping) else None
    return float(at_once) if isinstance(at_once, int | float) and at_once >= 1 else 1.0


def _count(calls: object) -> int:
    """How many calls a row made: its column holds them as JSON objects, each with the step that it was."""
    return calls.count('"step": ') if isinstance(calls, str) else 0
