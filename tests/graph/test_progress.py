"""Progress on the terminal: which model, which tier, how far, how long to go."""

from __future__ import annotations

import io

import pytest

from milton_assets.vocabulary.progress import Progress
from resources.durations import Durations
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
    clock.now = 65
    listen(Progress("inference", 2, 8, "factual"))
    assert "[1:05] model 1/2 v1 inference 2/8 · factual" in out.getvalue()


def test_what_is_left_counts_every_stage_of_every_model_to_come(shown, clock, out):
    listen = shown.listener("v1", 1, "inference")
    clock.now = 10
    listen(Progress("inference", 4, 4))
    listen = shown.listener("v1", 1, "reasoning")
    clock.now = 40
    listen(Progress("reasoning", 2, 2))
    listen = shown.listener("v2", 2, "inference")
    clock.now = 80
    listen(Progress("inference", 2, 4))
    # 2 of 4 steps took 40 s and the model before took 10 s in all: half of each says 60 s, of which 20 s are left. To
    # them come the 30 s that reasoning took the first time.
    assert out.getvalue().splitlines()[-1].endswith("about 0:50 left")


def test_while_a_stage_was_never_timed_only_what_is_left_of_the_present_one_is_told(shown, clock, out):
    listen = shown.listener("v1", 1, "inference")
    clock.now = 40
    listen(Progress("inference", 1, 4, "factual"))
    assert out.getvalue().splitlines()[-1].endswith("factual · about 2:00 of inference left")
    clock.now = 160
    listen(Progress("inference", 4, 4))
    assert "left" not in out.getvalue().splitlines()[-1], "what reasoning will take is not known"


def test_a_stage_with_nothing_to_do_is_timed_too(tmp_path, clock, out):
    path = tmp_path / "durations.json"
    shown = Meter(("fidelity", "inference"), 2, clock=clock, out=out, remembered=Durations.read(path, "full"))
    shown.listener("v1", 1, "fidelity")
    clock.now = 1
    listen = shown.listener("v1", 1, "inference")
    clock.now = 41
    listen(Progress("inference", 4, 4))
    assert out.getvalue().splitlines()[-1].endswith("about 0:41 left")
    again = Meter(("fidelity", "inference"), 1, order=("v1",), remembered=Durations.read(path, "full"))
    assert again.expected_s() == 41.0
    longer = Meter(("fidelity", "inference"), 1, order=("v1",), remembered=Durations.read(path, "fuller"))
    assert (longer.expected_s(), longer.expected_s("full")) == (None, 41.0)


def test_what_goes_by_while_a_server_starts_counts_to_the_stage_that_it_starts_for(tmp_path, clock, out):
    path = tmp_path / "durations.json"
    shown = Meter(("inference",), 2, clock=clock, out=out, remembered=Durations.read(path, "full"), order=("v1", "v2"))
    for number, version in enumerate(("v1", "v2"), 1):
        clock.now += 30
        listen = shown.listener(version, number, "inference")
        clock.now += 10
        listen(Progress("inference", 4, 4))
    assert [line.rpartition("about ")[2] for line in out.getvalue().splitlines()[1::2]] == ["0:40 left", "0:00 left"]
    again = Meter(("inference",), 2, order=("v1", "v2"), remembered=Durations.read(path, "full"))
    assert again.expected_s() == 80.0


def test_a_stage_is_over_once_it_ran_wherever_it_stands_in_the_list(shown, clock, out):
    shown.listener("v1", 1, "reasoning")(Progress("reasoning", 2, 2))
    assert "left" not in out.getvalue(), "what inference will take is not known"
    listen = shown.listener("v2", 2, "reasoning")
    clock.now = 30
    listen(Progress("reasoning", 2, 2))
    listen = shown.listener("v2", 2, "inference")
    clock.now = 40
    listen(Progress("inference", 4, 4))
    assert out.getvalue().splitlines()[-1].endswith("about 0:00 left")


def test_a_slow_first_step_does_not_throw_the_estimate_over(tmp_path, clock, out):
    path = tmp_path / "durations.json"
    Durations.read(path, "full").learn("inference", "v1", 100.0)
    remembered = Durations.read(path, "full")
    shown = Meter(("inference",), 1, clock=clock, out=out, order=("v1",), remembered=remembered)
    listen = shown.listener("v1", 1, "inference")
    clock.now = 40
    listen(Progress("inference", 1, 100))
    # By its pace alone it would be over an hour.
    assert out.getvalue().splitlines()[-1].endswith("about 1:39 left")


def test_what_stages_took_is_remembered_by_model_and_profile(tmp_path, clock, out):
    path = tmp_path / "durations.json"
    first = Meter(("inference",), 2, clock=clock, out=out, order=("v1", "v2"), remembered=Durations.read(path, "full"))
    assert first.expected_s() is None
    listen = first.listener("v1", 1, "inference")
    clock.now = 90
    listen(Progress("inference", 4, 4))
    again = Meter(("inference",), 2, order=("v1", "v2"), remembered=Durations.read(path, "full"))
    assert again.expected_s() == 180.0
    assert Meter(("inference",), 1, order=("v1",), remembered=Durations.read(path, "smoke")).expected_s() is None


def test_a_profile_that_was_never_timed_is_reckoned_from_another_by_how_much_more_each_stage_asks(tmp_path):
    kept = Durations.read(tmp_path / "durations.json", "smoke")
    for stage, version, seconds in [("inference", "v1", 20.0), ("reasoning", "v1", 40.0), ("reasoning", "v2", 60.0)]:
        kept.learn(stage, version, seconds)
    full = Durations.read(tmp_path / "durations.json", "full")
    shown = Meter(("inference", "reasoning"), 2, order=("v1", "v2"), remembered=full)
    assert shown.expected_s() is None
    assert shown.expected_s("smoke", {"inference": 10.0, "reasoning": 2.0}) == 10 * (20 + 20) + 2 * (40 + 60)


def test_a_file_of_durations_that_does_not_read_is_begun_anew(tmp_path):
    path = tmp_path / "durations.json"
    path.write_text('{"full": {"inference": {"v1": -1}}}')
    kept = Durations.read(path, "full")
    kept.learn("inference", "v1", 5.0)
    assert Durations.read(path, "full").before("inference", "v1") == 5.0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_line_is_redrawn_in_place_and_in_a_log_it_is_not(clock, out):
    terminal = Terminal()
    for place in (terminal, out):
        clock.now = 0
        listen = Meter(("inference",), 1, clock=clock, out=place).listener("v1", 1, "inference")
        for done in (1, 2, 3, 4):
            clock.now += 2
            listen(Progress("inference", done, 4))
    assert out.getvalue().count("\n") == 2 and "\r" not in out.getvalue()
    assert terminal.getvalue().count("\n") == 2
    assert terminal.getvalue().count("\r\x1b[2K") == 5
    assert [line.endswith("\r") for line in terminal.getvalue().split("\x1b[2K")[2:5]] == [True, True, True]


def test_on_a_narrow_terminal_a_long_note_gives_way_to_the_time_that_is_left(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = Terminal()
    listen = Meter(("inference",), 1, clock=clock, out=out).listener("smollm2-135m-q4_1", 1, "inference")
    clock.now = 30
    listen(Progress("inference", 2, 46, "factual-continents: first token after 212 ms, 64 tokens"))
    line = out.getvalue().rstrip("\r").split("\x1b[2K")[-1]
    assert line.endswith("… · about 11:00 left") and "2/46 · fact" in line
    assert len(line) == 79


def test_a_note_that_others_wrote_cannot_steer_the_terminal(shown, clock, out):
    listen = shown.listener("v1", 1, "retrieval")
    clock.now = 60
    listen(Progress("retrieval", 1, 8, "query \x1b[2J\x1b]0;title\x07"))
    assert r"query \x1b[2J\x1b]0;title\x07" in out.getvalue()


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
