"""Bundles and histories between hosts: what one made, another finds, and believes no more than it verifies."""

from __future__ import annotations

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from milton_assets.cli.app import build_app
from milton_assets.edge.bundle.archive import pack_bundle
from milton_assets.edge.bundle.publishing import staging_folder
from milton_assets.edge.deployment import Deployment, DeploymentFailed, Operation, Outcome
from milton_assets.edge.deployment.choosing import choose_bundle
from milton_assets.edge.manifest import BUNDLE_PREFIX
from milton_assets.edge.release import read_manifest
from milton_assets.fleet.target import DeployRequest
from milton_assets.fleet.targets import Targets
from milton_assets.selection.summary import BundleRecord, read_summary, write_summary
from milton_assets.usecases.incumbent import heard_of_last, incumbent_of
from milton_assets.usecases.shared_bundles import bring, hand_on, newest_release, reserved_by
from milton_assets.usecases.shared_history import hand_on_history, mirrored_anywhere
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.edge_target import mirror_file
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import ArtefactKind
from milton_assets.vocabulary.state import StateDir
from resources.evidence_store import EvidenceStore
from tests.support.bundles import NOW, ingredients
from tests.support.crashing import CountingOps, FailingOps, do_deploy
from tests.support.decided_run import VERSION, decided
from tests.support.edge_bundles import WEIGHTS_FILE, make_bundle
from tests.support.object_store import forget_object_stores, nobody_answers, object_store
from tests.support.selection import RUN_ID
from tests.support.targets import targets_of


@pytest.fixture(scope="module")
def bucket():
    with object_store() as made:
        yield made


@pytest.fixture
def store(bucket, tmp_path, monkeypatch):
    """The store as every host opens it; where the server is, a host's environment says."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.fs.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return EvidenceStore(str(bucket / tmp_path.name))


@pytest.fixture
def bundled(store, tmp_path):
    """A bundle that the host `a` made of a run's winner and handed on, and what the run's summary says of it."""
    a = StateDir(tmp_path / "a")
    decided(a)
    bundle = make_bundle(a.bundles, VERSION, run_id=RUN_ID)
    manifest = read_manifest(bundle)
    record = BundleRecord(path=a.tell(bundle), name=manifest.name, release_digest=manifest.release_digest)
    write_summary(store.runs, read_summary(a.runs).model_copy(update={"bundle": record}))
    hand_on(store, bundle, record)
    hand_on(store, bundle, record)  # a second time changes nothing
    return record


@pytest.mark.parametrize("run_id", [RUN_ID, None], ids=["by its run", "the newest"])
def test_a_bundle_that_one_host_made_is_found_by_another(store, bundled, tmp_path, run_id):
    b = StateDir(tmp_path / "b")
    bring(store, b.bundles, run_id=run_id, device_class=None)
    assert read_manifest(b.bundles / bundled.name).release_digest == bundled.release_digest
    assert [path.name for path in b.bundles.iterdir() if path.is_dir()] == [bundled.name]


def test_deployments_at_once_on_one_host_fetch_their_bundle_once(store, bundled, tmp_path, monkeypatch):
    fetched, fetch = [], EvidenceStore.fetch_file
    monkeypatch.setattr(EvidenceStore, "fetch_file", lambda *args: (fetched.append(args), fetch(*args)))
    b = StateDir(tmp_path / "b")
    with ThreadPoolExecutor(4) as runs:
        list(runs.map(lambda _: bring(store, b.bundles, run_id=RUN_ID, device_class=None), range(4)))
    assert read_manifest(b.bundles / bundled.name).release_digest == bundled.release_digest
    assert len(fetched) == 1


def test_a_bundle_is_brought_beside_another_that_this_host_made_in_the_same_second(store, bundled, tmp_path):
    """Of one winner's two classes, say, promoted on two hosts: a bundle's name has its version and second."""
    b = StateDir(tmp_path / "b")
    own = make_bundle(b.bundles, VERSION, run_id=f"{RUN_ID}.pi5")
    own.rename(b.bundles / bundled.name)
    for _ in range(2):
        bring(store, b.bundles, run_id=RUN_ID, device_class=None)
    there = [read_manifest(path) for path in b.bundles.glob(f"{BUNDLE_PREFIX}*")]
    assert sorted(manifest.run_id for manifest in there) == [RUN_ID, f"{RUN_ID}.pi5"]
    assert choose_bundle(b.bundles, kind=ArtefactKind.GGUF, run_id=RUN_ID).manifest.name == bundled.name


def test_what_a_killed_process_left_is_removed_when_a_bundle_is_brought(store, bundled, tmp_path):
    bundles = StateDir(tmp_path / "b").bundles
    with staging_folder(bundles) as left:
        copy = shutil.copytree(left, bundles / f"{left.name}0")
    os.utime(copy, (0, 0))
    bring(store, bundles, run_id=RUN_ID, device_class=None)
    assert not copy.exists()


def test_another_release_than_the_runs_is_not_kept(store, bundled, tmp_path):
    other = tmp_path / "other"
    bundle = make_bundle(other, "v2", run_id=RUN_ID)
    pack_bundle(bundle, tmp_path / "other.tar")
    store.keep_file(f"bundles/{bundled.release_digest}.tar", tmp_path / "other.tar")
    with pytest.raises(BadInput, match="holds the release"):
        bring(store, tmp_path / "b", run_id=RUN_ID, device_class=None)
    assert not [path for path in (tmp_path / "b").iterdir() if path.is_dir()]


def test_where_no_run_bundled_nothing_is_fetched(store, tmp_path):
    bring(store, tmp_path / "b", run_id=None, device_class=None)
    assert not (tmp_path / "b").exists()


def test_what_serves_on_another_hosts_target_is_the_incumbent_here(store, bundled, tmp_path):
    a, b = targets_of(StateDir(tmp_path / "a")), targets_of(StateDir(tmp_path / "b"))
    assert incumbent_of([b.named("local")], mirrored=mirrored_anywhere(store, b), on_note=print) is None
    bundle = StateDir(tmp_path / "a").bundles / bundled.name
    a.named("local").deploy(bundle, DeployRequest(actor="ada", load_test=False, health_rounds=0))
    hand_on_history(store, a, "local")
    notes = []
    assert incumbent_of([b.named("local")], mirrored=mirrored_anywhere(store, b), on_note=notes.append) == VERSION
    assert f"after {a.mirrored('local')[-1].id}, the latest that is known, which ended " in notes[0]


def of_an_hour(hour: int, version: str, identifier: str) -> Deployment:
    at = NOW + timedelta(hours=hour)
    return Deployment(
        id=f"deploy_20260111_142500_000_{identifier}",
        operation=Operation.DEPLOY,
        target="kit",
        target_path="/srv/kit",
        actor="ada",
        started_at=at,
        finished_at=at,
        outcome=Outcome.COMMITTED,
        release=sha256_bytes(version.encode()),
        now_serving=sha256_bytes(version.encode()),
        model_version=version,
    )


def mirroring(state: StateDir, attempts: list[Deployment]) -> Targets:
    """The targets of a state folder that mirrored these attempts of the target `kit`."""
    mirror = mirror_file(state, "kit")
    mirror.parent.mkdir(parents=True)
    mirror.write_text("".join(f"{attempt.model_dump_json()}\n" for attempt in attempts))
    return targets_of(state)


OLD, NEW = of_an_hour(0, "v1", "00000a"), of_an_hour(1, "v2", "00000b")
SET_BACK = of_an_hour(-1, "v3", "00000c")


@pytest.mark.parametrize(
    ("ours", "theirs", "serves"),
    [
        ([OLD], [OLD, NEW], "v2"),
        ([OLD, NEW], [OLD], "v2"),
        ([OLD], [NEW], "v2"),
        ([NEW], [OLD], "v2"),
        ([OLD, NEW], [OLD, NEW, SET_BACK], "v3"),
    ],
    ids=["theirs goes on", "ours goes on", "theirs ended later", "ours ended later", "a clock was set back"],
)
def test_of_two_hosts_mirrors_of_a_target_the_newer_counts(store, tmp_path, ours, theirs, serves):
    hand_on_history(store, mirroring(StateDir(tmp_path / "there"), theirs), "kit")
    here = mirroring(StateDir(tmp_path / "here"), ours)
    assert heard_of_last(["kit"], mirrored_anywhere(store, here)) == serves


def test_an_older_copy_of_a_history_replaces_no_newer_one(store, tmp_path):
    for folder, attempts in (("newer", [OLD, NEW]), ("older", [OLD])):
        hand_on_history(store, mirroring(StateDir(tmp_path / folder), attempts), "kit")
    assert heard_of_last(["kit"], mirrored_anywhere(store, targets_of(StateDir(tmp_path / "here")))) == "v2"


@pytest.fixture
def host(store, tmp_path, monkeypatch):
    """A host that shares the store, whose command line this process runs."""
    monkeypatch.setenv("MILTON_STATE_DIR", str(tmp_path / "a"))
    monkeypatch.setenv("MILTON_EVIDENCE_URL", str(store.root))
    return StateDir(tmp_path / "a")


def milton(*words):
    return CliRunner().invoke(build_app(), [str(word) for word in words], catch_exceptions=False)


def cut_off(host: StateDir) -> None:
    """Leave an attempt behind that was cut off in its middle."""
    bundle, place = make_bundle(host.bundles, "v1"), targets_of(host).named("local").place
    counted = CountingOps()
    do_deploy(bundle, targets_of(StateDir(host.root.with_name("counted"))).named("local").place, counted)
    with suppress(DeploymentFailed, OSError):
        do_deploy(bundle, place, FailingOps(len(counted.steps) // 2, errno.EIO, stays=True))


def outcomes_elsewhere(store, tmp_path) -> list[str]:
    elsewhere = targets_of(StateDir(tmp_path / "elsewhere"))
    return [attempt.outcome for attempt in mirrored_anywhere(store, elsewhere)("local")]


@pytest.mark.parametrize("verb", [("recover",), ("recover", "--all"), ("gc",)], ids=" ".join)
def test_what_a_recovery_settled_is_known_to_other_hosts(store, host, tmp_path, verb):
    cut_off(host)
    assert outcomes_elsewhere(store, tmp_path) == []
    assert milton(*verb).exit_code == 0
    assert outcomes_elsewhere(store, tmp_path) == ["interrupted"]


def test_what_a_rollout_changed_and_took_back_is_known_to_other_hosts(store, host, tmp_path):
    bundles = [make_bundle(host.bundles, version, counter=counter) for counter, version in enumerate(("v1", "v2"), 1)]
    unprobed = ("--no-load-test", "--health-rounds", "0")
    assert milton("deploy", "--bundle", bundles[0], *unprobed).exit_code == 0
    assert milton("rollout", "plan", "spring", "--bundle", bundles[1], *unprobed).exit_code == 0
    assert milton("rollout", "start", "spring").exit_code == 0
    elsewhere = mirrored_anywhere(store, targets_of(StateDir(tmp_path / "elsewhere")))
    assert heard_of_last(["local"], elsewhere) == "v2"
    assert milton("rollout", "abort", "spring").exit_code == 0
    assert heard_of_last(["local"], elsewhere) == "v1"


def test_a_recovery_does_not_wait_for_a_store_that_is_away(store, host, monkeypatch):
    cut_off(host)
    with nobody_answers() as away:
        for name, value in away.items():
            monkeypatch.setenv(name, value)
        forget_object_stores()
        done = milton("recover", "--all")
    assert (done.exit_code, "cut off" in done.stdout) == (0, True)
    assert "warning: other hosts do not know the history of local yet" in done.stderr


def test_an_attempt_that_did_not_stand_is_known_to_other_hosts(store, host, tmp_path):
    bundle = make_bundle(host.bundles, "v1")
    (bundle / WEIGHTS_FILE).write_bytes(b"short")
    assert milton("deploy", "--bundle", bundle, "--no-load-test", "--health-rounds", "0").exit_code == 1
    assert outcomes_elsewhere(store, tmp_path) == ["failed"]


def test_bundles_of_hosts_at_once_are_numbered_without_a_gap_or_a_twin(store):
    with ThreadPoolExecutor(4) as hosts:
        counters = list(hosts.map(lambda _: reserved_by(EvidenceStore(str(store.root)))(1000), range(12)))
    assert sorted(counters) == list(range(1000, 1012))


def test_a_host_whose_clock_is_behind_numbers_its_bundle_above_those_of_others(store, tmp_path):
    made = ingredients(tmp_path)
    ahead = made.bundle(tmp_path / "a", now=NOW + timedelta(days=1), reserve=reserved_by(store))
    behind = made.bundle(tmp_path / "b", now=NOW, reserve=reserved_by(store))
    assert behind.manifest.counter == ahead.manifest.counter + 1


def test_a_bundle_names_the_release_before_it_whichever_host_made_that(store, bundled):
    assert newest_release(store) == bundled.release_digest
