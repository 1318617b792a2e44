"""A deployer killed at any step leaves the old or the new release, whole, and a true history."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from milton_assets.edge.deployment import (
    DeploymentFailed,
    EdgeTarget,
    Outcome,
    collect_garbage,
    deploy,
    recover_target,
    status,
)
from milton_assets.edge.deployment.report import history
from tests.support.crashing import (
    CountingOps,
    GuardKillingOps,
    Verb,
    When,
    clock,
    do_collect,
    do_deploy,
    do_recover,
    do_rollback,
    do_watched_deploy,
    healthy,
    killed_at,
    killed_with_guard_at,
)
from tests.support.edge_bundles import make_bundle, read_manifest
from tests.support.watching import until
from tests.support.whole import check_whole, visible_is_whole


class Stage:
    """Three bundles, and a target that serves the first; fresh copies of it on demand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.a = make_bundle(folder / "bundles", "v1")
        self.b = make_bundle(folder / "bundles", "v2", counter=2)
        self.c = make_bundle(folder / "bundles", "v3", counter=3)
        self.a_digest, self.b_digest, self.c_digest = (
            read_manifest(bundle).release_digest for bundle in (self.a, self.b, self.c)
        )
        self._template = folder / "template"
        self._copies = 0
        deploy(self.a, EdgeTarget("edge", self._template), load_test=healthy, actor="setup", now=clock)

    def target(self, *, after_b: bool = False) -> EdgeTarget:
        """A target that serves A or, with `after_b`, serves B after A."""
        self._copies += 1
        path = self.folder / f"target{self._copies}"
        shutil.copytree(self._template, path, symlinks=True)
        target = EdgeTarget("edge", path, self.folder / f"history{self._copies}.jsonl")
        if after_b:
            deploy(self.b, target, load_test=healthy, actor="setup", now=clock)
        return target


@pytest.fixture
def stage(quick_folder: Path) -> Stage:
    return Stage(quick_folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("when", list(When))
@pytest.mark.parametrize("verb", [do_deploy, do_rollback], ids=["deploy", "rollback"])
def test_a_kill_at_any_step_leaves_the_old_or_the_new_release(stage: Stage, verb: Verb, when: When) -> None:
    served = set()
    step = 0
    while killed_at(step, when, verb, stage.b, target := stage.target(after_b=verb is do_rollback)):
        visible_is_whole(target)
        recover_target(target, actor="recovery", now=clock)
        served.add(check_whole(target, {stage.a_digest, stage.b_digest}))
        do_deploy(stage.b, target, CountingOps())
        assert check_whole(target, {stage.b_digest})
        step += 1
    assert step > 30
    assert served == {stage.a_digest, stage.b_digest}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_deployer_and_its_guard_killed_at_any_step_of_the_guard_leave_the_old_or_the_new_release(
    stage: Stage,
) -> None:
    served = set()
    step = 0
    while killed_with_guard_at(step, When.HALFWAY, stage.b, target := stage.target()):
        until(lambda: not status(target).locked)
        visible_is_whole(target)
        recover_target(target, actor="recovery", now=clock)
        served.add(check_whole(target, {stage.a_digest, stage.b_digest}))
        step += 1
    assert step > 15
    assert served == {stage.a_digest, stage.b_digest}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_guard_killed_at_some_steps_is_made_good_by_its_deployer(stage: Stage) -> None:
    outcomes = set()
    for step in range(1, 24, 6):
        target = stage.target()
        with suppress(DeploymentFailed):
            do_watched_deploy(stage.b, target, GuardKillingOps(step, When.AFTER, deployer_too=False))
        check_whole(target, {stage.a_digest, stage.b_digest})
        outcomes.add(history(target)[-1].outcome)
    assert outcomes == {Outcome.FAILED, Outcome.ROLLED_BACK, Outcome.COMMITTED}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("when", list(When))
def test_a_collection_killed_at_any_step_frees_nothing_that_is_in_service(stage: Stage, when: When) -> None:
    step = 0
    while killed_at(step, when, do_collect, stage.b, target := stage.target(after_b=True)):
        visible_is_whole(target)
        recover_target(target, actor="recovery", now=clock)
        assert check_whole(target, {stage.b_digest})
        assert collect_garbage(target, actor="recovery", now=clock).kept == (stage.b_digest,)
        assert [path.name for path in (target.path / "releases").iterdir()] == [stage.b_digest]
        step += 1
    assert step > 10


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_kill_while_a_damaged_release_in_service_is_replaced_leaves_it_as_it_was_or_whole(stage: Stage) -> None:
    found = set()
    step = 0

    def damaged() -> EdgeTarget:
        target = stage.target()
        (target.path / "current" / "model" / "weights.gguf").write_bytes(b"damaged")
        return target

    while killed_at(step, When.HALFWAY, do_deploy, stage.a, target := damaged()):
        recover_target(target, actor="recovery", now=clock)
        weights = target.path / "releases" / stage.a_digest / "model" / "weights.gguf"
        found.add(weights.read_bytes())
        do_deploy(stage.a, target, CountingOps())
        assert check_whole(target, {stage.a_digest})
        step += 1
    assert found == {b"damaged", (stage.a / "model" / "weights.gguf").read_bytes()}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("when", list(When))
def test_a_kill_during_the_first_deployment_leaves_nothing_or_the_new_release(stage: Stage, when: When) -> None:
    served = set()
    step = 0
    while killed_at(step, when, do_deploy, stage.b, target := EdgeTarget("edge", stage.folder / f"new{step}")):
        visible_is_whole(target)
        do_deploy(stage.c, target, CountingOps())
        first = history(target)[0]
        served.add(first.outcome if first.bundle_path == str(stage.b) else None)
        assert check_whole(target, {stage.c_digest})
        step += 1
    assert step > 30
    assert {Outcome.INTERRUPTED, Outcome.COMMITTED} <= served


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_recovery_that_is_itself_killed_at_any_step_still_ends_whole(stage: Stage) -> None:
    total = _steps_of(stage, do_deploy)
    for first in range(0, total, 7):
        second = 0
        again = True
        while again:
            target = stage.target()
            assert killed_at(first, When.AFTER, do_deploy, stage.b, target)
            again = killed_at(second, When.HALFWAY, do_recover, stage.b, target)
            visible_is_whole(target)
            recover_target(target, actor="recovery", now=clock)
            check_whole(target, {stage.a_digest, stage.b_digest})
            second += 1


def _steps_of(stage: Stage, verb: Verb) -> int:
    counting = CountingOps()
    verb(stage.b, stage.target(), counting)
    return len(counting.steps)


def test_a_kill_just_after_the_swap_rolls_back_and_says_so(stage: Stage) -> None:
    counting = CountingOps()
    do_deploy(stage.b, stage.target(), counting)
    swap = counting.steps.index("symlink") + 1
    assert counting.steps[swap] == "rename"
    target = stage.target()
    assert killed_at(swap, When.AFTER, do_deploy, stage.b, target)
    assert (target.path / "current").readlink().name == stage.b_digest
    (sentence,) = [s for s in recover_target(target, actor="recovery", now=clock) if "cut off" in s]
    assert "back to what was in service before" in sentence
    assert check_whole(target, {stage.a_digest})
    assert history(target)[-1].outcome is Outcome.INTERRUPTED
