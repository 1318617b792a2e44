"""Pictures: real PNGs that show what the decision says, for every kind of decision."""

from __future__ import annotations

import io
from collections.abc import Callable

import matplotlib.image
import numpy as np
import pytest

from milton_assets.selection import Candidate, Decision, decide, load_policy, plots
from milton_assets.vocabulary.metric import Metric
from tests.support.selection import RUN_ID, candidate, manifest
from tests.support.tiers import TIERS


def decided(*candidates: Candidate) -> Decision:
    return decide(
        run_id=RUN_ID,
        candidates=candidates,
        policy=load_policy("seed"),
        manifest=manifest(candidates),
        incumbent=None,
        tiers=TIERS,
    )


def pixels(png: bytes) -> np.ndarray:
    image: np.ndarray = matplotlib.image.imread(io.BytesIO(png))
    return image


def has_colour(png: bytes, colour: str) -> bool:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return bool((np.abs(pixels(png)[..., :3] - wanted) < 0.01).all(axis=-1).any())


POOL = (
    candidate("v1", (100.0, 90.0, 110.0), 50.0, (0.95, 0.91, 0.98), 0.6),
    candidate("v2", 120.0, 40.0, 0.94, 0.61),
    candidate("v3", 80.0, 60.0, 0.2, 0.6),
    candidate("v4", cove=Metric.failed("cove_pass_rate", "share", "the server died")),
)
GREEN, GREY, GATE = "#1a7f37", "#8c959f", "#cf222e"


@pytest.mark.parametrize("draw", [plots.intervals, plots.pareto])
def test_the_winner_stands_out_and_those_who_failed_are_grey(draw: Callable[[Decision], bytes]) -> None:
    png = draw(decided(*POOL))
    assert png.startswith(b"\x89PNG")
    assert has_colour(png, GREEN)
    assert has_colour(png, GREY)


def test_gates_are_drawn_with_the_intervals_only() -> None:
    decision = decided(*POOL)
    assert has_colour(plots.intervals(decision), GATE)
    assert not has_colour(plots.pareto(decision), GATE)


def test_without_a_winner_nothing_is_drawn_as_one() -> None:
    rejected = decided(candidate("a", cove=0.1))
    assert not has_colour(plots.intervals(rejected), GREEN)
    assert not has_colour(plots.pareto(rejected), GREEN)


def test_a_run_without_candidates_still_gives_pictures() -> None:
    for draw in (plots.intervals, plots.pareto):
        assert pixels(draw(decided())).size


def test_many_candidates_and_long_names_keep_the_picture_in_bounds() -> None:
    many = decided(*(candidate(f"v{i:03}-{'x' * 100}", latency=10.0 + i) for i in range(60)))
    height, width = pixels(plots.intervals(many)).shape[:2]
    assert max(height, width) < 2500


def test_equal_decisions_give_equal_pictures() -> None:
    assert plots.intervals(decided(*POOL)) == plots.intervals(decided(*POOL))
