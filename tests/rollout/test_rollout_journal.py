"""A rollout's journal on the disk: resumed after a torn end, refused when altered, and one process's at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from milton_assets.rollout.events import Paused, Planned, Resumed, Started
from milton_assets.rollout.journal import (
    JOURNAL_FILE,
    Asked,
    RolloutBusy,
    RolloutDamaged,
    ask,
    created,
    opened,
    parse,
    read_rollout,
    take_asked,
)
from milton_assets.rollout.simulate import BEGINS_AT, Rates
from milton_assets.rollout.states import IllegalEvent, Stage
from milton_assets.vocabulary.digest import canonical_json
from milton_assets.vocabulary.errors import BadInput
from tests.support.rollouts import plan_of, simulated


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A rollout that was planned and started."""
    with created(tmp_path / "spring") as journal:
        journal.append(Planned(at=BEGINS_AT, actor="ada", plan=plan_of(3)))
        journal.append(Started(at=BEGINS_AT, actor="ada"))
    return tmp_path / "spring"


def test_what_was_written_is_read_again(folder: Path) -> None:
    with opened(folder) as journal:
        journal.append(Paused(at=BEGINS_AT, reason="lunch", actor="ada"))
    reading = read_rollout(folder)
    assert [event.kind for event in reading.events] == ["planned", "started", "paused"]
    assert reading.state is not None
    assert reading.state.stage is Stage.PAUSED


def test_every_torn_end_is_dropped_and_written_over(folder: Path) -> None:
    path = folder / JOURNAL_FILE
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        for padding in (b"", b"\0" * 7):
            path.write_bytes(whole[:end] + padding)
            with opened(folder) as journal:
                assert journal.state.stage is Stage.PLANNED
                journal.append(Started(at=BEGINS_AT, actor="ada"))
            assert path.read_bytes() == whole


@pytest.mark.parametrize("line", [0, 1], ids=["the-plan", "the-start"])
def test_a_changed_line_is_refused_with_its_number(folder: Path, line: int) -> None:
    path = folder / JOURNAL_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"actor":"ada"', b'"actor":"eve"')
    path.write_bytes(b"".join(lines))
    with pytest.raises(RolloutDamaged, match=f"line {line + 1} .* not what its digest says"):
        read_rollout(folder)


def test_a_missing_line_is_refused(folder: Path) -> None:
    with opened(folder) as journal:
        journal.append(Paused(at=BEGINS_AT, reason="lunch", actor="ada"))
    path = folder / JOURNAL_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    with pytest.raises(RolloutDamaged, match="does not follow the line before"):
        read_rollout(folder)


def test_a_plan_of_another_format_is_refused_with_both_versions(folder: Path) -> None:
    path = folder / JOURNAL_FILE
    line = json.loads(path.read_bytes().splitlines()[0])
    line["record"]["plan"]["plan_version"] = 7
    path.write_text(canonical_json(line) + "\n")
    with pytest.raises(RolloutDamaged, match=r"format version 7.*expected: 1"):
        read_rollout(folder)


def test_an_event_that_must_not_follow_is_not_written(folder: Path) -> None:
    before = (folder / JOURNAL_FILE).read_bytes()
    with opened(folder) as journal, pytest.raises(IllegalEvent):
        journal.append(Resumed(at=BEGINS_AT, actor="ada"))
    assert (folder / JOURNAL_FILE).read_bytes() == before


def test_one_process_at_a_time_runs_a_rollout(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from milton_assets.rollout.journal import opened\n"
        "with opened(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RolloutBusy, match="another process runs"), opened(folder):
            pass
        other.kill()
    with opened(folder) as journal:  # the lock died with its holder
        assert journal.state.stage is Stage.RUNNING


def test_a_name_is_used_once(folder: Path) -> None:
    with pytest.raises(BadInput, match="there is a rollout spring already"), created(folder):
        pass


def test_what_was_never_planned_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no rollout autumn"):
        read_rollout(tmp_path / "autumn")


def test_what_a_person_asked_for_is_taken_once(folder: Path) -> None:
    assert take_asked(folder) is None
    asked = Asked(abort=True, actor="ada", reason="regretted")
    ask(folder, asked)
    assert take_asked(folder) == asked
    assert take_asked(folder) is None
    (folder / "asked.json").write_text("{}")
    with pytest.raises(BadInput, match="does not hold"):
        take_asked(folder)


def test_the_journal_of_a_simulated_fleet_means_the_same_when_it_is_read(tmp_path: Path) -> None:
    kept, _, _ = simulated(plan_of(60, at_once=10), Rates(failing=0.05, offline=0.1), seed=3)
    with created(tmp_path / "spring") as journal:
        for event in kept.events:
            journal.append(event)
    state = parse((tmp_path / "spring" / JOURNAL_FILE).read_bytes()).state
    assert state is not None
    assert dict(state.devices) == dict(kept.state.devices)
    assert (state.stage, state.well, state.failed) == (kept.state.stage, kept.state.well, kept.state.failed)
