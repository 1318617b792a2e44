"""The health window belongs to the target: it goes on when the deployer is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from milton_assets.edge.deployment import (
    DeploymentFailed,
    EdgeTarget,
    HealthWindow,
    Outcome,
    TargetBusy,
    deploy,
    recover_target,
    status,
)
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.journal import JOURNAL_FILE
from milton_assets.edge.deployment.report import history
from milton_assets.edge.release.disk import Fd
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.progress import Progress
from tests.support.crashing import ailing, clock, healthy
from tests.support.edge_bundles import make_bundle, read_manifest
from tests.support.watching import Crashing, until
from tests.support.whole import check_whole

ROOT = Path(__file__).parents[2]


class Scene:
    """A target that serves A, and a deployer process that is taking B there under a health window."""

    def __init__(self, folder: Path, target: EdgeTarget) -> None:
        self.target = target
        self.log, self.go = folder / "asked.log", folder / "go"
        self.a = make_bundle(folder / "bundles", "v1")
        self.b = make_bundle(folder / "bundles", "v2", counter=2)
        self.a_digest, self.b_digest = (read_manifest(bundle).release_digest for bundle in (self.a, self.b))
        deploy(self.a, target, load_test=healthy, actor="setup", now=clock)

    def start(self, rounds: int = 1) -> subprocess.Popen[bytes]:
        arguments = (self.b, self.target.path, self.target.history_file, self.log, self.go, rounds)
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.watched_deployer", *map(str, arguments)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
        )

    def guard(self) -> int:
        """The process that asks the probe, once it does."""
        until(lambda: self.log.exists() and self.log.read_text().endswith("\n"))
        return int(self.log.read_text().splitlines()[-1])

    def say(self, word: str) -> None:
        self.go.with_suffix(".new").write_text(word)
        self.go.with_suffix(".new").rename(self.go)

    def outcome(self) -> Outcome:
        return history(self.target)[-1].outcome


@pytest.fixture
def scene(tmp_path: Path, target: EdgeTarget) -> Iterator[Scene]:
    scene = Scene(tmp_path, target)
    yield scene
    if scene.log.exists():
        for line in set(scene.log.read_text().split()):
            with suppress(ProcessLookupError):
                os.kill(int(line), signal.SIGKILL)


def test_a_release_that_stays_well_is_committed_by_the_guard(scene: Scene) -> None:
    deployer = scene.start(rounds=2)
    assert scene.guard() != deployer.pid
    scene.say("well")
    assert deployer.wait(60) == 0, deployer.stderr.read()
    assert check_whole(scene.target, {scene.b_digest})
    assert len(history(scene.target)[-1].health) == 2
    assert status(scene.target).known_good.model_version == "v2"


def test_a_release_that_sickens_is_rolled_back_by_the_guard(scene: Scene) -> None:
    deployer = scene.start()
    scene.guard()
    scene.say("ill")
    assert deployer.wait(60) == 1
    assert b"was rolled back: health check 1 of 1 failed: it only says baa" in deployer.stderr.read()
    assert check_whole(scene.target, {scene.a_digest})
    assert scene.outcome() is Outcome.ROLLED_BACK


@pytest.mark.parametrize(("word", "outcome"), [("well", Outcome.COMMITTED), ("ill", Outcome.ROLLED_BACK)])
def test_when_the_deployer_is_killed_the_guard_decides_alone(scene: Scene, word: str, outcome: Outcome) -> None:
    deployer = scene.start()
    guard = scene.guard()
    deployer.kill()
    deployer.wait()
    with pytest.raises(TargetBusy, match=r"held by a shell"):
        deploy(scene.a, scene.target, load_test=None, actor="another", now=clock)
    scene.say(word)
    until(lambda: not Path(f"/proc/{guard}").exists() or not status(scene.target).locked)
    assert scene.outcome() is outcome
    assert check_whole(scene.target, {scene.b_digest if word == "well" else scene.a_digest})
    assert scene.target.history_file.read_text().splitlines()[-1] == history(scene.target)[-1].model_dump_json()


def test_when_the_guard_is_killed_the_deployer_undoes_the_activation(scene: Scene) -> None:
    deployer = scene.start()
    os.kill(scene.guard(), signal.SIGKILL)
    assert deployer.wait(60) == 1
    assert b"the target's guard ended with -9" in deployer.stderr.read()
    assert check_whole(scene.target, {scene.a_digest})


def test_when_both_are_killed_the_next_to_take_the_target_in_hand_settles_it(scene: Scene) -> None:
    deployer = scene.start()
    guard = scene.guard()
    deployer.kill()
    deployer.wait()
    os.kill(guard, signal.SIGKILL)
    until(lambda: not status(scene.target).locked)
    assert any("was cut off while activated" in problem for problem in status(scene.target).problems)
    recover_target(scene.target, actor="recovery", now=clock)
    assert scene.outcome() is Outcome.INTERRUPTED
    assert check_whole(scene.target, {scene.a_digest})


def test_ctrl_c_while_watching_undoes_the_activation(scene: Scene) -> None:
    deployer = scene.start()
    scene.guard()
    deployer.send_signal(signal.SIGINT)
    assert deployer.wait(60) != 0
    assert scene.outcome() is Outcome.INTERRUPTED
    assert check_whole(scene.target, {scene.a_digest})


def test_a_guard_that_crashes_leaves_its_last_words(scene: Scene) -> None:
    with pytest.raises(DeploymentFailed, match=r"guard ended with 7: .*the device is on fire"):
        deploy(scene.b, scene.target, load_test=healthy, health=HealthWindow(Crashing()), actor="ada", now=clock)
    assert check_whole(scene.target, {scene.a_digest})


def test_each_round_is_reported_once_it_passed(scene: Scene) -> None:
    told: list[Progress] = []
    window = HealthWindow(healthy, rounds=5, interval_s=0)
    done = deploy(scene.b, scene.target, load_test=None, health=window, actor="ada", now=clock, on_progress=told.append)
    assert done.outcome is Outcome.COMMITTED
    passed = [step.note for step in told if step.note.startswith("health round")]
    assert passed == [f"health round {number} of 5 passed" for number in range(1, 6)]


class ReadsCounted(FileOps):
    """Counts how often this process opens the journal to read it."""

    def __init__(self) -> None:
        self.reads = 0

    def open_read(self, name: str, parent: Fd) -> Fd:
        self.reads += name == JOURNAL_FILE
        return super().open_read(name, parent)

    def __reduce__(self) -> tuple[type[FileOps], tuple[()]]:
        return FileOps, ()


def test_whoever_looks_on_reads_the_journal_only_when_it_has_grown(scene: Scene) -> None:
    ops = ReadsCounted()
    window = HealthWindow(healthy, rounds=2, interval_s=3)
    done = deploy(scene.b, scene.target, load_test=None, health=window, actor="ada", now=clock, ops=ops)
    assert done.outcome is Outcome.COMMITTED
    before_and_after, records_of_the_guard = 8, 5
    assert ops.reads <= before_and_after + records_of_the_guard


def test_a_probe_of_the_deployers_own_script_is_refused_too(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "ailing", ailing, raising=False)
    monkeypatch.setattr(ailing, "__module__", "__main__")
    with pytest.raises(DeploymentFailed, match="it is defined in the script that runs"):
        deploy(scene.b, scene.target, load_test=None, health=HealthWindow(ailing), actor="ada", now=clock)


def test_a_probe_that_cannot_be_handed_over_is_refused_before_anything_changes(scene: Scene) -> None:
    window = HealthWindow(lambda *asked: ailing(*asked))
    with pytest.raises(DeploymentFailed, match="cannot be handed to the target's guard") as raised:
        deploy(scene.b, scene.target, load_test=None, health=window, actor="ada", now=clock)
    assert isinstance(raised.value.__cause__, BadInput)
    assert raised.value.deployment.outcome is Outcome.FAILED
    assert check_whole(scene.target, {scene.a_digest})
