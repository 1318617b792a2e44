"""Progress on the terminal: which model, which tier, how far, how long to go."""

from __future__ import annotations

import io

import pytest

from milton_assets.vocabulary.progress import Progress
from resources.progress import Meter, terminal_listener


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture
def shown(clock, out):
    return Meter(("inference", "reasoning"), 2, clock=clock, out=out)


def test_a_line_names_model_tier_and_how_far(shown, clock, out):
    listen = shown.listener("v1", 1, "inference")
    clock.now = 5
    listen(Progress("inference", 2, 8, "factual"))
    assert "[0:05] model 1/2 v1 inference 2/8 · factual" in out.getvalue()


def test_what_is_left_counts_every_stage_of_every_model_to_come(shown, clock, out):
    listen = shown.listener("v1", 1, "inference")
    clock.now = 10
    listen(Progress("inference", 4, 4))
    listen = shown.listener("v1", 1, "reasoning")
    clock.now = 40
    listen(Progress("reasoning", 2, 2))
    listen = shown.listener("v2", 2, "inference")
    clock.now = 45
    listen(Progress("inference", 2, 4))
    # 5 s of this stage, and the 30 s that reasoning took the first time.
    assert out.getvalue().splitlines()[-1].endswith("about 0:35 left")


def test_steps_in_quick_succession_are_thinned_out_but_the_last_is_shown(shown, clock, out):
    listen = shown.listener("v1", 1, "inference")
    for done in range(1, 101):
        clock.now += 0.01
        listen(Progress("inference", done, 100))
    lines = out.getvalue().splitlines()
    assert len(lines) < 6
    assert "inference 100/100" in lines[-1]


def test_nothing_is_promised_before_the_first_step(shown, clock, out):
    listen = shown.listener("v1", 1, "inference")
    clock.now = 3
    listen(Progress("inference", 0, 8, "warming up"))
    assert "left" not in out.getvalue()


def test_outside_the_tiers_every_deployment_step_is_shown_and_bytes_now_and_then(capsys):
    listen = terminal_listener(every_s=60.0)
    for done in range(3):
        listen(Progress("deploy", done, 8, f"step {done}"))
        for megabyte in range(5):
            listen(Progress("copy", megabyte, 5))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["deploy 0/8 step 0", "deploy 1/8 step 1", "deploy 2/8 step 2"]
