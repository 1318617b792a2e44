"""After a power loss at any point, with any choice of unsynced writes lost, recovery ends in a whole release."""

from __future__ import annotations

from pathlib import Path

import pytest

from milton_assets.edge.deployment import EdgeTarget, collect_garbage, deploy, recover_target
from tests.support.crashing import Verb, clock, do_deploy, do_rollback, healthy
from tests.support.edge_bundles import make_bundle, read_manifest
from tests.support.power_loss import (
    Choose,
    Event,
    RecordingOps,
    Tree,
    after_power_loss,
    by_chance,
    keep_everything,
    keep_names_and_sizes,
    keep_names_only,
    lose_everything,
)
from tests.support.whole import check_whole


class Recording:
    """A target that serves A, or B after A, and the record of what a verb then did to it."""

    def __init__(self, folder: Path, verb: Verb) -> None:
        self.folder = folder
        self._copies = 0
        a = make_bundle(folder / "bundles", "v1")
        b = make_bundle(folder / "bundles", "v2", counter=2)
        target = EdgeTarget("edge", folder / "target")
        deploy(a, target, load_test=healthy, actor="setup", now=clock)
        if verb is not do_deploy:
            deploy(b, target, load_test=healthy, actor="setup", now=clock)
        self.before = served(target)
        self.recorded = RecordingOps(target.path)
        verb(b, target, self.recorded)
        self.after = served(target)
        self.releases = {read_manifest(bundle).release_digest for bundle in (a, b)}

    def put_down(self, tree: Tree) -> EdgeTarget:
        self._copies += 1
        target = EdgeTarget("edge", self.folder / f"replay{self._copies}")
        tree.put_down(target.path)
        return target

    def first(self, kind: str, marker: bytes) -> int:
        """The number of events up to and including the first fsync after the bytes `marker` were written."""
        events = self.recorded.events
        start = next(n for n, e in enumerate(events) if e.kind == "write" and marker in e.details[2])
        return next(n for n in range(start, len(events)) if events[n].kind == kind) + 1


def served(target: EdgeTarget) -> str:
    return (target.path / "current").readlink().name


def do_collect(bundle: Path, target: EdgeTarget, ops: RecordingOps) -> None:
    collect_garbage(target, actor="crash test", now=clock, ops=ops)


CHOICES: list[Choose] = [
    lose_everything,
    keep_everything,
    keep_names_only,
    keep_names_and_sizes,
    by_chance(1),
    by_chance(2),
    by_chance(3),
]


def test_the_record_is_faithful(quick_folder: Path) -> None:
    recording = Recording(quick_folder, do_deploy)
    whole = after_power_loss(recording.recorded, len(recording.recorded.events), keep_everything)
    replayed = recording.put_down(whole)
    original = {p.relative_to(quick_folder / "target"): p for p in (quick_folder / "target").rglob("*")}
    for relative, path in original.items():
        if path.name != "lock" and path.is_file():
            assert (replayed.path / relative).read_bytes() == path.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("verb", [do_deploy, do_rollback, do_collect], ids=["deploy", "rollback", "gc"])
def test_whatever_was_not_synced_recovery_ends_in_a_whole_release(quick_folder: Path, verb: Verb) -> None:
    recording = Recording(quick_folder, verb)
    ends = set()
    for at in range(len(recording.recorded.events) + 1):
        for choose in CHOICES:
            target = recording.put_down(after_power_loss(recording.recorded, at, choose))
            recover_target(target, actor="recovery", now=clock)
            ends.add(check_whole(target, {recording.before, recording.after}))
    assert ends == {recording.before, recording.after}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("verb", [do_deploy, do_rollback], ids=["deploy", "rollback"])
def test_once_committed_is_synced_no_loss_undoes_it_and_before_activating_none_does_it(
    quick_folder: Path, verb: Verb
) -> None:
    recording = Recording(quick_folder, verb)
    activating = recording.first("write", b'"kind":"activating"')
    committed = recording.first("sync", b'"kind":"committed"')
    for at in range(len(recording.recorded.events) + 1):
        for choose in CHOICES:
            if activating <= at < committed:
                continue
            target = recording.put_down(after_power_loss(recording.recorded, at, choose))
            recover_target(target, actor="recovery", now=clock)
            assert served(target) == (recording.before if at < activating else recording.after)


def test_without_its_fsyncs_a_deployment_would_not_survive(quick_folder: Path) -> None:
    recording = Recording(quick_folder, do_deploy)
    events = recording.recorded.events
    recording.recorded.events = [e for e in events if e.kind != "sync" or _is_folder(recording.recorded, e)]
    target = recording.put_down(after_power_loss(recording.recorded, len(recording.recorded.events), keep_names_only))
    with pytest.raises((AssertionError, ValueError, OSError)):
        recover_target(target, actor="recovery", now=clock)
        check_whole(target, {recording.before, recording.after})


def _is_folder(recorded: RecordingOps, sync: Event) -> bool:
    return sync.details[0] in recorded.now.folders
