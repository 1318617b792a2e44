"""Whatever is done to a bundle, every door gives the same verdict on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dagster import DagsterInstance

from milton_assets.edge.bundle import pack_bundle, unpack_bundle
from milton_assets.edge.deployment import Deployment, DeploymentFailed, EdgeTarget, Operation, Outcome, deploy, rollback
from milton_assets.edge.deployment.report import history
from milton_assets.edge.release import verify_release
from milton_assets.usecases.trace import Records, trace
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.state import StateDir
from resources.evidence_store import EvidenceStore
from resources.registries import open_registry
from tests.support.crashing import clock, healthy
from tests.support.edge_bundles import WEIGHTS_FILE, make_bundle, read_manifest
from tests.support.hostile_bundles import ROWS, Row
from tests.support.targets import targets_of

hostile = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)


@pytest.fixture(autouse=True)
def deep_folders_go(tmp_path: Path) -> Iterator[None]:
    """Remove what Python cannot: folders nested deeper than it recurses."""
    yield
    subprocess.run(["rm", "-rf", *map(str, tmp_path.iterdir())], check=True)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundles", "v1")


def trace_of_release(release: Path, deployed: Path, state: Path) -> bool:
    """Whether `trace` says of the release in that folder that it holds; `deployed` is as it was deployed."""
    manifest = read_manifest(deployed)
    deployment = Deployment(
        id="deploy_20260111_142500_000_000000",
        operation=Operation.DEPLOY,
        target="edge",
        target_path=str(release.parent.parent),
        actor="ada",
        started_at=datetime(2026, 1, 11, tzinfo=UTC),
        finished_at=datetime(2026, 1, 11, tzinfo=UTC),
        outcome=Outcome.COMMITTED,
        release=manifest.release_digest,
        manifest_sha256=sha256_file(deployed / "manifest.json"),
        bundle_path=str(release),
    )
    with DagsterInstance.ephemeral() as instance:
        here = StateDir(state)
        store = EvidenceStore(str(state / "evidence"))
        records = Records(here, store, instance, dict, {}, open_registry(None, here))
        target = targets_of(here, {"edge": deployment.target_path}).named("edge")
        return next(link for link in trace(deployment, target, records).links if link.what == "release").holds


def installed(target: EdgeTarget, bundle: Path) -> Path:
    """Deploy the bundle, and another after it; the folder of the first on the target, to which a rollback goes."""
    deploy(bundle, target, load_test=healthy, actor="ada", now=clock)
    newer = make_bundle(bundle.parent.parent / "newer", "v2", counter=2)
    deploy(newer, target, load_test=healthy, actor="ada", now=clock)
    return target.path / "releases" / read_manifest(bundle).release_digest


def test_a_whole_bundle_passes_every_door(bundle: Path, target: EdgeTarget, tmp_path: Path) -> None:
    assert verify_release(bundle).ok
    options = {"load_test": healthy, "actor": "ada", "now": clock}
    assert deploy(bundle, target, dry_run=True, **options).outcome is Outcome.WOULD_COMMIT
    release = installed(target, bundle)
    assert trace_of_release(release, bundle, tmp_path / "state")
    assert verify_release(unpack_bundle(pack_bundle(bundle, tmp_path / "x.tar"), tmp_path / "unpacked")).ok
    assert rollback(target, dry_run=True, **options).outcome is Outcome.WOULD_COMMIT
    assert rollback(target, **options).outcome is Outcome.COMMITTED


@hostile
def test_verify_names_the_kind_of_problem(row: Row, bundle: Path) -> None:
    row.do(bundle)
    report = verify_release(bundle)
    assert row.kinds <= {problem.kind.value for problem in report.problems}, report.problems
    assert not report.ok


@hostile
def test_deploying_it_is_refused_and_leaves_nothing(row: Row, bundle: Path, target: EdgeTarget) -> None:
    row.do(bundle)
    with pytest.raises(DeploymentFailed):
        deploy(bundle, target, load_test=healthy, actor="ada", now=clock)
    assert not (target.path / "current").exists()
    assert list((target.path / "staging").iterdir()) == []
    assert list((target.path / "releases").iterdir()) == []
    assert history(target)[-1].outcome is Outcome.FAILED


@hostile
def test_a_dry_run_refuses_it(row: Row, bundle: Path, target: EdgeTarget) -> None:
    row.do(bundle)
    with pytest.raises(MiltonError):
        deploy(bundle, target, load_test=healthy, actor="ada", now=clock, dry_run=True)
    assert not target.path.exists()


@hostile
def test_it_is_neither_packed_nor_unpacked(row: Row, bundle: Path, tmp_path: Path) -> None:
    row.do(bundle)
    with pytest.raises(MiltonError):
        unpack_bundle(pack_bundle(bundle, tmp_path / "x.tar"), tmp_path / "unpacked")
    assert not list((tmp_path / "unpacked").iterdir() if (tmp_path / "unpacked").exists() else [])


@hostile
def test_what_lies_on_the_target_is_not_gone_back_to(row: Row, bundle: Path, target: EdgeTarget) -> None:
    release = installed(target, bundle)
    row.do(release)
    serving = (target.path / "current").readlink()
    with pytest.raises(MiltonError):
        rollback(target, load_test=healthy, actor="ada", now=clock, dry_run=True)
    with pytest.raises(DeploymentFailed):
        rollback(target, load_test=healthy, actor="ada", now=clock)
    assert (target.path / "current").readlink() == serving


@hostile
def test_tracing_what_lies_on_the_target_says_that_it_is_broken(
    row: Row, bundle: Path, target: EdgeTarget, tmp_path: Path
) -> None:
    deploy(bundle, target, load_test=healthy, actor="ada", now=clock)
    release = target.path / "releases" / read_manifest(bundle).release_digest
    row.do(release)
    assert not trace_of_release(release, bundle, tmp_path / "state")


@hostile
def test_what_is_installed_is_replaced_by_a_whole_copy(row: Row, bundle: Path, target: EdgeTarget) -> None:
    deploy(bundle, target, load_test=healthy, actor="ada", now=clock)
    row.do(target.path / "current")
    done = deploy(bundle, target, load_test=healthy, actor="ada", now=clock)
    assert done.outcome is Outcome.COMMITTED
    assert verify_release(target.path / "current").ok
    assert list((target.path / "staging").iterdir()) == []


def test_a_second_name_is_a_note_in_a_bundle_and_refused_on_a_target(
    bundle: Path, target: EdgeTarget, tmp_path: Path
) -> None:
    os.link(bundle / WEIGHTS_FILE, tmp_path / "another name")
    report = verify_release(bundle)
    assert report.ok
    assert "another name" in " ".join(report.notes)
    release = installed(target, bundle)
    os.link(release / WEIGHTS_FILE, tmp_path / "a third")
    with pytest.raises(DeploymentFailed, match="2 hard links"):
        rollback(target, load_test=healthy, actor="ada", now=clock)
    assert not trace_of_release(release, bundle, tmp_path / "state")
