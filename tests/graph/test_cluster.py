"""Several hosts by Dagster's own engines, and what becomes of a campaign when one of their parts fails.

The hosts have nothing in common but Postgres, Redis and an S3 server (`tests.support.cluster`). One registered campaign
goes from the sensor to a deployment on another host while its daemon is killed amid a tick, a host's cable is cut amid
a tier and never mended, and the object store is gone for a minute; then one that a person conducts, while Postgres is
restarted. All that is set up and waited for once (`road`); each test holds one thing against what was seen. Where no
namespaces can be made, that host's worker is killed instead.
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from celery import Celery
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.scheduler.instigation import InstigatorTick
from sqlalchemy import text
from upath import UPath

from milton_assets.assets.evidence import CAMPAIGN_TAG, CONDUCTED_TAG
from milton_assets.selection.summary import RunSummary, read_summary, run_ids
from milton_assets.vocabulary.tier import TierResult
from resources.evidence_store import EvidenceStore
from resources.registries.json_file import new_entry
from tests.support.cluster import BIN, EVIDENCE_URL, Cluster, cluster, end, hosts_apart, wait_until
from tests.support.gguf_file import tiny_gguf
from tests.support.processes import left_behind
from tests.support.scripted_server import scripted_server
from tests.support.workplace import competent

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

SETTINGS = {
    "targets": {"kitchen": "deployments/kitchen"},
    "queues": {"benchmark_model": "cpu-box", "promote": "spare", "deploy": "edge-box"},
}
VERSIONS = ("v1", "v2")
FREE_WITHIN_S = 90.0
LOCK = 4711
LOCKING = f"""
import time
from dagster import DagsterInstance
from sqlalchemy import text

with DagsterInstance.get() as instance, instance.event_log_storage.index_transaction() as connection:
    connection.execute(text("SELECT pg_advisory_xact_lock({LOCK})"))
    time.sleep(600)
"""
"""What holds a lock in the database amid a transaction, as a run does for a moment whenever it keeps something."""
STORE_GONE_S = 60.0


class Models:
    """Competent models whose speed is measured only while they may, and that tell when they are first asked."""

    def __init__(self) -> None:
        self.think = competent()
        self.may = {version: threading.Event() for version in VERSIONS}
        self.asked = {version: threading.Event() for version in VERSIONS}

    def reply(self, body: dict[str, Any]) -> Any:
        """The server's answer; to a question of the speed tier, which streams, once the model may give it."""
        if body.get("stream"):
            self.asked[body["model"]].set()
            assert self.may[body["model"]].wait(600)
        return self.think(body)

    def hold(self) -> None:
        """From now on nobody's speed is measured to its end."""
        for version in VERSIONS:
            self.may[version].clear()
            self.asked[version].clear()


@dataclass
class Road:
    """What was seen on the way."""

    made: Cluster
    root: Path
    began: float = field(default_factory=time.monotonic)
    lost: str = ""
    free_after_s: float = 0.0
    works_on: bool = False
    locked_for_s: float = 0.0
    runs_when_the_daemon_died: int = 0
    runs: list[DagsterRun] = field(default_factory=list)
    pages: dict[str, str] = field(default_factory=dict)
    conducted: list[DagsterRun] = field(default_factory=list)
    summary: RunSummary | None = None
    second: RunSummary | None = None
    refused: str = ""
    ticks: list[InstigatorTick] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)
    queued: dict[str, int] = field(default_factory=dict)

    def told(self, what: str) -> None:
        """Say when that was, for `pytest -s`."""
        print(f"{time.monotonic() - self.began:5.0f} s: {what}")

    def measured(self, version: str) -> list[DagsterRun]:
        """The sensor's runs that were to measure that model, in their order."""
        of_job = (run for run in self.runs if run.job_name == "benchmark_model")
        return [run for run in reversed(list(of_job)) if run.tags["dagster/partition"] == version]


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """The whole road, gone once."""
    root, models = tmp_path_factory.mktemp("cluster"), Models()
    with (
        hosts_apart("cpu-box", "spare", "edge-box") as hosts,
        scripted_server(models.reply, models=VERSIONS, address=hosts.address) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        variables = {
            "MILTON_PROFILE": "smoke",
            "MILTON_POLICY": "smoke",
            "MILTON_WATCH_MACHINE": "0",
            "SCRIPTED_SERVER": server.base_url,
        }
        with cluster(root, hosts, ("desk", "cpu-box", "spare", "edge-box"), variables, SETTINGS) as made:
            for name, value in made.boxes["desk"].environment.items():
                patch.setenv(name, value)
            register(made, root)
            seen = Road(made, root)
            with DagsterInstance.from_config(str(made.boxes["desk"].state.dagster)) as instance:
                try:
                    go(seen, instance, models)
                    conduct(seen, instance, models)
                except AssertionError as error:
                    pytest.fail(f"{error}\n{made.logs()}")
            yield seen
    assert left_behind(str(root)) == []


def is_locked(instance: DagsterInstance) -> bool:
    """Whether somebody holds the lock of that number in the database."""
    with instance.run_storage.connect() as connection:
        return not connection.execute(text(f"SELECT pg_try_advisory_xact_lock({LOCK})")).scalar_one()


def register(made: Cluster, root: Path) -> None:
    """Put both models and the registry into the bucket, as a trainer would."""
    entries = {}
    for seed, version in enumerate(VERSIONS):
        weights = root / f"{version}.gguf"
        tiny_gguf(weights, seed=seed)
        content = weights.read_bytes()
        made.put(f"models/{version}/model-f32.gguf", content)
        named = f"{version}/model-f32.gguf#sha256={hashlib.sha256(content).hexdigest()}"
        entries[version] = new_entry("org/base", gguf=named)
    UPath(made.boxes["desk"].environment["MILTON_REGISTRY"]).write_text(json.dumps({"models": entries}))


def go(seen: Road, instance: DagsterInstance, models: Models) -> None:
    """From the sensor to a deployment, past a killed daemon, a host that is gone and a store that is away."""
    made, told = seen.made, seen.told
    desk, cpu, spare, edge = (made.boxes[name] for name in ("desk", "cpu-box", "spare", "edge-box"))
    daemon = desk.daemon()
    cpu.worker()
    cpu.start(sys.executable, "-c", LOCKING)
    spare.worker("cpu-box,spare")
    edge.worker()
    wait_until(lambda: instance.get_runs_count() > 0, 120, "the first run of a tick", poll_s=0.01)
    end(daemon, signal.SIGKILL)
    seen.runs_when_the_daemon_died = instance.get_runs_count()
    told("the daemon was killed")
    desk.daemon()
    for version in VERSIONS:
        wait_until(models.asked[version].is_set, 180, f"the first question to {version}")
    told("both models were asked")
    wait_until(lambda: is_locked(instance), 60, "a lock of the host's in the database")
    pool = f"accelerator-{cpu.name}"
    (place,) = instance.event_log_storage.get_concurrency_info(pool).claimed_slots
    seen.lost = instance.get_run_by_id(place.run_id).tags["dagster/partition"]
    (other,) = {*VERSIONS} - {seen.lost}
    cpu.go_for_ever()
    made.objects.down()
    failed_at = time.monotonic()
    models.may[other].set()  # it is measured on, to its end, when its table has to be kept
    wait_until(
        lambda: not instance.event_log_storage.get_concurrency_info(pool).claimed_slots,
        FREE_WITHIN_S,
        "the pool's place free",
    )
    seen.free_after_s = time.monotonic() - failed_at
    wait_until(lambda: not is_locked(instance), FREE_WITHIN_S, "what the host had locked free")
    seen.locked_for_s = time.monotonic() - failed_at
    told(f"the pool's place was free after {seen.free_after_s:.0f} s")
    time.sleep(max(0.0, STORE_GONE_S - seen.free_after_s))
    made.objects.up()
    told("the store was there again")
    models.may[seen.lost].set()
    runs = UPath(EVIDENCE_URL) / "runs"
    wait_until(lambda: run_ids(runs), 240, "a decision")
    told("it was decided")


def conduct(seen: Road, instance: DagsterInstance, models: Models) -> None:
    """A person's campaign, which hands its runs to the same workers, while Postgres is restarted.

    It begins while the first one is deployed.
    """
    made, told, runs = seen.made, seen.told, UPath(EVIDENCE_URL) / "runs"
    models.hold()
    command = ("env", "DAGSTER_MODULE_NAME=tests.support.served_module", BIN / "milton", "autobench", "--new")
    conductor = made.boxes["desk"].start(*command, "--only", seen.lost)
    wait_until(lambda: read_summary(runs).deployments, 180, "a deployment")
    seen.summary = read_summary(runs)
    deployed = RunsFilter(job_name="deploy", statuses=[DagsterRunStatus.SUCCESS])
    wait_until(lambda: instance.get_runs_count(deployed), 60, "the end of the deployment")
    told("it was deployed")
    wait_until(models.asked[seen.lost].is_set, 120, "a conducted run's first question")
    other = made.boxes["edge-box"].start(*command)
    made.postgres.down(signal.SIGINT)
    time.sleep(8)  # longer than Dagster's own tries
    made.postgres.up()
    wait_until(lambda: other.poll() is not None, 120, "the end of another host's campaign")
    assert other.returncode == 1, "two campaigns at once"
    seen.refused = made.boxes["edge-box"].log.read_text()
    told("another host was refused")
    for may in models.may.values():
        may.set()
    wait_until(lambda: conductor.poll() is not None, 180, "the end of the person's campaign")
    assert conductor.returncode == 0, "the person's campaign failed"
    told("a person's campaign was over")
    seen.second = read_summary(runs)
    for run in instance.get_runs():
        (seen.conducted if run.job_name == "autobench" or CONDUCTED_TAG in run.tags else seen.runs).append(run)
        said = (entry.user_message or entry.message for entry in instance.all_logs(run.run_id))
        seen.pages[run.run_id] = "\n".join(said)
    look_for_what_is_left(seen, instance)
    cut_off = made.boxes["cpu-box"].processes
    seen.works_on = all(process.poll() is None for process in cut_off)
    for process in cut_off:
        end(process, signal.SIGKILL)  # its worker would finish first what nobody hears


def look_for_what_is_left(seen: Road, instance: DagsterInstance) -> None:
    """How the registry sensor's ticks ended, the places held in each pool, and the tasks waiting in each queue."""
    (sensor,) = (one for one in instance.all_instigator_state() if one.name == "registry_sensor")
    seen.ticks = list(instance.get_ticks(sensor.instigator_origin_id, sensor.selector_id))
    pools = instance.event_log_storage
    seen.held = {
        pool: pools.get_concurrency_info(pool).active_slot_count + pools.get_concurrency_info(pool).pending_step_count
        for pool in pools.get_concurrency_keys()
    }
    with Celery(broker=seen.made.boxes["desk"].environment["MILTON_BROKER_URL"]).connection() as broker:
        queues = {"cpu-box", "spare", "edge-box"}
        seen.queued = {queue: broker.default_channel.client.llen(queue) for queue in queues}


def test_a_campaign_gets_to_the_edge_box_once_whatever_failed_on_the_way(road):
    became = Counter((run.job_name, run.status.value) for run in road.runs)
    assert became == {
        ("benchmark_model", "FAILURE"): 1,
        ("benchmark_model", "SUCCESS"): 2,
        ("promote", "SUCCESS"): 1,
        ("deploy", "SUCCESS"): 1,
    }
    assert {run.tags[CAMPAIGN_TAG] for run in road.runs} == {road.summary.run_id}
    assert [told.target for told in road.summary.deployments] == ["kitchen"]
    edge = road.made.boxes["edge-box"]
    assert (edge.state.deployments / "kitchen" / "current").exists()
    traced = edge.milton("trace")
    assert traced.returncode == 0, traced.stdout + traced.stderr


def test_a_daemon_that_was_killed_amid_a_tick_asks_for_each_model_once(road):
    asked_for = Counter(run.tags["dagster/partition"] for run in road.runs if "dagster/parent_run_id" not in run.tags)
    assert {version: asked_for[version] for version in VERSIONS} == dict.fromkeys(VERSIONS, 1)
    assert road.runs_when_the_daemon_died >= 1


def test_what_became_of_a_killed_daemons_tick_is_among_the_ticks(road):
    states = Counter(tick.status.value for tick in road.ticks)
    assert states["STARTED"] == 0, states
    asked = [run_id for tick in road.ticks if tick.status.value == "SUCCESS" for run_id in tick.run_ids]
    first = {run.run_id for version in VERSIONS for run in road.measured(version)[:1]}
    assert sorted(asked) == sorted(first)


def test_nothing_is_left_in_a_pool_or_a_queue(road):
    assert "accelerator-cpu-box" in road.held
    assert set(road.held.values()) == {0}
    assert set(road.queued.values()) == {0}


def test_a_host_that_is_cut_off_amid_a_tier_loses_its_place_in_time_and_its_runs_page_says_so(road):
    lost, again = road.measured(road.lost)
    assert road.works_on == bool(road.made.boxes["cpu-box"].cable)
    assert road.free_after_s < FREE_WITHIN_S
    assert lost.status is DagsterRunStatus.FAILURE
    assert "cpu-box@" in road.pages[lost.run_id]
    assert "it was lost" in road.pages[lost.run_id]
    assert again.tags["dagster/parent_run_id"] == lost.run_id


def test_what_a_host_that_is_cut_off_had_locked_in_the_database_is_free_in_time(road):
    assert road.locked_for_s < FREE_WITHIN_S


def test_where_a_host_never_comes_back_another_of_its_queue_takes_its_runs(road):
    assert sorted(pool_of(pin) for pin in road.summary.manifest.pins() if pin.tier == "inference") == [
        "accelerator-spare",
        "accelerator-spare",
    ]
    assert not any(box.state.benchmarks.exists() for box in road.made.boxes.values())
    assert not road.made.boxes["cpu-box"].state.deployments.exists()


def pool_of(pin: Any) -> str:
    """The pool in which a pinned table was measured."""
    table = EvidenceStore(EVIDENCE_URL).read_bytes(pin.uri, pin.sha256)
    measured_on = TierResult.from_table(pq.read_table(pa.BufferReader(table))).provenance["measured_on"]
    return str(measured_on["pool"])


def test_a_run_whose_store_is_gone_for_a_minute_waits_for_it_and_its_page_says_so(road):
    (other,) = {*VERSIONS} - {road.lost}
    (run,) = road.measured(other)
    assert "the object store does not answer" in road.pages[run.run_id]


def test_a_host_that_made_nothing_has_a_bundle_to_deploy_by_hand(road):
    desk = road.made.boxes["desk"]
    rehearsed = desk.milton("deploy", "--run", road.summary.run_id, "--no-load-test", "--dry-run")
    assert rehearsed.returncode == 0, rehearsed.stdout + rehearsed.stderr
    assert list(desk.state.bundles.glob("milton_edge_bundle_*"))


def test_a_persons_campaign_hands_its_runs_to_the_workers_and_outlasts_a_restart_of_postgres(road):
    became = Counter((run.job_name, run.status.value) for run in road.conducted)
    assert became[("benchmark_model", "SUCCESS")] == 1
    assert became[("autobench", "SUCCESS")] == became[("promote", "SUCCESS")] == 1
    # The other is that of the host that was refused.
    assert {job for (job, status) in became if status != "SUCCESS"} == {"autobench"}
    assert road.second.run_id > road.summary.run_id
    assert road.second.decision.incumbent == road.summary.decision.winner
    (conductor,) = (run for run in road.conducted if run.tags.get(CAMPAIGN_TAG) and run.job_name == "autobench")
    assert "is away" in road.pages[conductor.run_id]
    assert "handed to cpu-box" in road.made.boxes["desk"].log.read_text()


def test_while_a_campaign_runs_on_one_host_another_host_starts_none_though_postgres_was_restarted(road):
    assert "another campaign is running (campaign of process" in road.refused
