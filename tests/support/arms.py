"""Comparisons between whole devices: plans, figures, and devices that are far more unlike each other than requests are.

What belongs here: making them. What does not: what is claimed of them (tests and benches).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime

from milton_assets.edge.canary.verdict import Judgement
from milton_assets.edge.canary.whole import Figures
from milton_assets.rollout.arms import Candidate, FleetPlan, drawn_blocks, judge_fleet, size_of_blocks


def candidates(count: int, device_class: str = "pi5", release: str = "a" * 64) -> list[Candidate]:
    return [
        Candidate(name=f"{device_class}-{n}", device_class=device_class, release=release, model_version="v1")
        for n in range(count)
    ]


def plan_of(devices: int, *, share: float = 0.25, seed: int = 1) -> FleetPlan:
    blocks, left_out = drawn_blocks(candidates(devices), share=share, seed=f"{seed:064x}")
    return FleetPlan(
        id="canary_20260112_093000_000_0a1b2c",
        challenger="c" * 64,
        challenger_version="v2",
        challenger_manifest_sha256="d" * 64,
        blocks=blocks,
        left_out=left_out,
        share=share,
        seed=f"{seed:064x}",
        requests=100,
        started_at=datetime(2026, 1, 12, tzinfo=UTC),
        actor="ada",
    )


def figures(
    *, errors: float = 0.0, answer: float = 0.2, writing: float = 0.02, length: float = 200, requests: int = 100
) -> Figures:
    return Figures(requests=requests, errors=errors, answer=answer, writing=writing, length=length)


def judged_after_each_block(
    rng: random.Random, *, slower: float = 1.0, more_errors: float = 0.0, share: float, spread: float = 0.5
) -> Iterator[Judgement]:
    """A comparison of 12 blocks. Some devices fail every tenth request; the logarithms of their times deviate by
    `spread`: with a half, some are thrice as slow as others."""
    plan = plan_of(12 * size_of_blocks(share), share=share, seed=rng.getrandbits(200))
    told = {}
    for block in plan.blocks:
        for name in block.devices:
            mine = name == block.challenger
            times = slower if mine else 1.0
            told[name] = figures(
                errors=round(rng.betavariate(0.5, 20), 2) + (more_errors if mine else 0),
                answer=math.exp(rng.gauss(-1.5, spread)) * times,
                writing=math.exp(rng.gauss(-4, spread)) * times,
                length=math.exp(rng.gauss(5, 0.3)),
            )
        yield judge_fleet(plan, told)
