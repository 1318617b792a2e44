"""A Ctrl-C or a SIGTERM at the worst moment: while a record becomes durable."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from milton_assets.edge.deployment import EdgeTarget, HealthWindow, Outcome, deploy, recover_target, status
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.report import history
from milton_assets.edge.release.disk import Fd
from tests.support.crashing import InterruptingOps, When, clock, healthy
from tests.support.edge_bundles import make_bundle, read_manifest
from tests.support.watching import until
from tests.support.whole import check_whole


@pytest.fixture
def releases(tmp_path: Path, target: EdgeTarget) -> tuple[Path, str, str]:
    """A target that serves A; the bundle B, and the digests of both."""
    a, b = make_bundle(tmp_path, "v1"), make_bundle(tmp_path, "v2", counter=2)
    deploy(a, target, load_test=healthy, actor="setup", now=clock)
    return b, read_manifest(a).release_digest, read_manifest(b).release_digest


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
def test_a_ctrl_c_while_the_commit_becomes_durable_does_not_undo_it(
    releases: tuple[Path, str, str], target: EdgeTarget, when: When
) -> None:
    b, _, b_digest = releases
    ops = InterruptingOps(signal.SIGINT, "committed", when)
    with pytest.raises(KeyboardInterrupt):
        deploy(b, target, load_test=healthy, actor="ada", now=clock, ops=ops)
    assert history(target)[-1].outcome is Outcome.COMMITTED
    assert status(target).known_good.digest == b_digest
    assert recover_target(target, actor="recovery", now=clock) == ()
    assert check_whole(target, {b_digest}) == b_digest


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
def test_a_sigterm_while_the_guards_commit_becomes_durable_does_not_undo_it(
    releases: tuple[Path, str, str], target: EdgeTarget, when: When
) -> None:
    b, _, b_digest = releases
    ops = InterruptingOps(signal.SIGTERM, "committed", when)
    window = HealthWindow(healthy, rounds=1, interval_s=0)
    done = deploy(b, target, load_test=None, health=window, actor="ada", now=clock, ops=ops)
    assert done.outcome is Outcome.COMMITTED
    assert check_whole(target, {b_digest}) == b_digest


@pytest.mark.parametrize("word", ["accepted", "verified", "installed", "activating", "activated", "health_checked"])
@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
def test_a_ctrl_c_while_any_earlier_record_becomes_durable_undoes_the_attempt(
    releases: tuple[Path, str, str], target: EdgeTarget, word: str, when: When
) -> None:
    b, a_digest, _ = releases
    ops = InterruptingOps(signal.SIGINT, word, when)
    window = HealthWindow(healthy, rounds=1, interval_s=0, detached=False)
    with pytest.raises(KeyboardInterrupt):
        deploy(b, target, load_test=None, health=window, actor="ada", now=clock, ops=ops)
    assert history(target)[-1].outcome is Outcome.INTERRUPTED
    assert check_whole(target, {a_digest}) == a_digest


class InterruptedWhenTheGuardStarts(FileOps):
    """Sends Ctrl-C when the guard has been started and its deployer does not know it yet."""

    def close(self, handle: Fd) -> None:
        is_log = Path(f"/proc/self/fd/{handle}").readlink().name == "guard.log"
        super().close(handle)
        if is_log:
            signal.raise_signal(signal.SIGINT)


def test_a_guard_whose_deployer_was_interrupted_while_starting_it_does_nothing(
    releases: tuple[Path, str, str], target: EdgeTarget
) -> None:
    b, a_digest, _ = releases
    window = HealthWindow(healthy, rounds=1, interval_s=0)
    with pytest.raises(KeyboardInterrupt):
        deploy(b, target, load_test=None, health=window, actor="ada", now=clock, ops=InterruptedWhenTheGuardStarts())
    assert history(target)[-1].outcome is Outcome.INTERRUPTED
    until(lambda: not status(target).locked)
    assert check_whole(target, {a_digest}) == a_digest
