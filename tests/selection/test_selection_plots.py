"""Pictures: real PNGs that show what the decision says, for every kind of decision."""

from __future__ import annotations

import io
from collections.abc import Callable

import matplotlib.image
import numpy as np
import pytest

from milton_assets.selection import plots
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision
from milton_assets.selection.policy_file import load_policy
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


@pytest.mark.parametrize("draw", [plots.intervals, plots.pareto])
@pytest.mark.parametrize("count", [0, 1, 4, 60])
def test_every_picture_is_a_thousand_pixels_wide_whatever_it_shows(
    draw: Callable[[Decision], bytes], count: int
) -> None:
    shown = decided(*(candidate(f"v{i:03}-{'x' * 100}", latency=10.0 + i, ndcg=0.5 + i / 200) for i in range(count)))
    height, width = pixels(draw(shown)).shape[:2]
    assert width == plots.WIDTH == 1000
    assert height < 2000


def test_no_name_crosses_the_frame_and_no_line_joins_two_models() -> None:
    corners = [(10.0, 0.5), (10.0, 0.9), (500.0, 0.5), (500.0, 0.9), (240.0, 0.69), (270.0, 0.71)]
    models = [candidate(f"v{i}-{'W' * 100}", latency=x, ndcg=y) for i, (x, y) in enumerate(corners)]
    figure = plots.pareto_figure(decided(*models))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    frame = axes.get_window_extent()
    assert len(axes.texts) == len(corners)
    for name in axes.texts:
        extent = name.get_window_extent()
        assert frame.x0 <= extent.x0 < extent.x1 <= frame.x1, name.get_text()
        assert frame.y0 <= extent.y0 < extent.y1 <= frame.y1, name.get_text()
    assert not axes.lines


def test_equal_decisions_give_equal_pictures() -> None:
    assert plots.intervals(decided(*POOL)) == plots.intervals(decided(*POOL))
