"""The controller hears what a device noticed while it served: in its health, as an asset, and as a check that fails."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from dagster import AssetKey, DagsterInstance

from milton_assets.definitions import build_defs
from milton_assets.edge.deployment import EdgeTarget, deploy
from milton_assets.edge.serving.health_journal import EventKind, HealthEvent, HealthJournal
from milton_assets.settings import load_settings
from milton_assets.usecases.compose import targets_of
from tests.support.crashing import clock
from tests.support.edge_bundles import make_bundle

NOW = datetime(2026, 1, 11, 14, 25, tzinfo=UTC)


def served(root: Path) -> HealthJournal:
    """A target `local` in the state folder `root`, in service, and its journal of events."""
    place = EdgeTarget("local", root / "deployments" / "local", root / "deployment_history" / "local.jsonl")
    deploy(make_bundle(root / "made", "v1"), place, load_test=None, actor="ada", now=clock)
    return HealthJournal(place.path / "health.jsonl")


def event(kind: EventKind, said: str, *, needs_person: bool = False) -> HealthEvent:
    return HealthEvent(at=NOW, kind=kind, said=said, needs_person=needs_person)


def test_health_tells_what_needs_a_person_until_it_is_settled(tmp_path: Path) -> None:
    journal = served(tmp_path)
    target = targets_of(load_settings({"MILTON_STATE_DIR": str(tmp_path)})).named("local")
    journal.write(event(EventKind.STARTED, "serving began"))
    journal.write(event(EventKind.ALARM, "the disk is full", needs_person=True))
    journal.write(event(EventKind.ALARM, "the processor is throttled"))
    health = target.health()
    assert (health.problems, health.well) == (("the disk is full",), False)
    assert [told.said for told in health.events][-1] == "the processor is throttled"
    journal.write(event(EventKind.STARTED, "serving began again"))
    assert target.health().problems == ()


def test_the_check_fails_when_a_device_needs_a_person(tmp_path: Path) -> None:
    journal = served(tmp_path)
    defs = build_defs(environment={"MILTON_STATE_DIR": str(tmp_path)})
    checks = {}
    with DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("edge_targets", ["local"])
        for said in (None, "the disk is full"):
            if said:
                journal.write(event(EventKind.ALARM, said, needs_person=True))
            job = defs.resolve_job_def("look_after")
            done = job.execute_in_process(instance=instance, partition_key="local")
            assert done.success
            assert done.asset_materializations_for_node("device_health")[0].asset_key == AssetKey("device_health")
            (inventory,) = done.asset_materializations_for_node("device_inventory")
            assert inventory.partition == "local"
            (check,) = done.get_asset_check_evaluations()
            checks[said] = check.passed
    assert checks == {None: True, "the disk is full": False}
