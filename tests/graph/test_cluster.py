"""Several hosts by Dagster's own engines: Postgres, Redis, an S3 server, a daemon, and two workers with own folders.

The hosts are processes on loopback with nothing in common but these three services. The first worker is killed while it
measures, so that the road that follows is that of a run which was lost and started again.
"""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from upath import UPath

from milton_assets.selection.summary import read_summary, run_ids
from milton_assets.vocabulary.tier import TierResult
from resources.evidence_store import EvidenceStore
from resources.registries.json_file import new_entry
from tests.support.cluster import EVIDENCE_URL, cluster, end, wait_until
from tests.support.gguf_file import tiny_gguf
from tests.support.processes import left_behind
from tests.support.scripted_server import scripted_server
from tests.support.workplace import competent

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

SETTINGS = {
    "targets": {"kitchen": "deployments/kitchen"},
    "queues": {"benchmark_model": "cpu-box", "promote": "cpu-box", "deploy": "edge-box"},
}
FREE_WITHIN_S = 90.0


def test_a_registered_model_gets_to_the_edge_box_though_its_worker_was_killed(tmp_path, monkeypatch):
    gate, think, asked = threading.Event(), competent(), threading.Event()

    def reply(body):
        asked.set()
        assert gate.wait(600)
        return think(body)

    weights = tmp_path / "model-f32.gguf"
    tiny_gguf(weights)
    named = f"v1/{weights.name}#sha256={hashlib.sha256(weights.read_bytes()).hexdigest()}"
    with scripted_server(reply, models=("v1",)) as server:
        variables = {
            "MILTON_PROFILE": "smoke",
            "MILTON_POLICY": "smoke",
            "MILTON_WATCH_MACHINE": "0",
            "SCRIPTED_SERVER": server.base_url,
        }
        with cluster(tmp_path, ("desk", "cpu-box", "edge-box"), variables, SETTINGS) as made:
            desk, cpu, edge = (made.boxes[name] for name in ("desk", "cpu-box", "edge-box"))
            for name, value in desk.environment.items():
                monkeypatch.setenv(name, value)
            made.put(f"models/v1/{weights.name}", weights.read_bytes())
            registry = UPath(desk.environment["MILTON_REGISTRY"])
            registry.write_text(f'{{"models": {{"v1": {json.dumps(new_entry("org/base", gguf=named))}}}}}')
            desk.daemon()
            worker = cpu.worker()
            edge.worker()
            with DagsterInstance.from_config(str(desk.state.dagster)) as instance:
                try:
                    wait_until(asked.is_set, 240, "the first question of a tier")
                    end(worker, signal.SIGKILL)
                    killed_at = time.monotonic()
                    pool = f"accelerator-{cpu.name}"
                    wait_until(
                        lambda: not instance.event_log_storage.get_concurrency_info(pool).claimed_slots,
                        FREE_WITHIN_S,
                        "the pool's place free",
                    )
                    print(f"the pool's place was free {timedelta(seconds=time.monotonic() - killed_at)} after the kill")
                    gate.set()
                    cpu.worker()
                    runs = UPath(EVIDENCE_URL) / "runs"
                    wait_until(lambda: run_ids(runs), 240, "a decision")
                    wait_until(lambda: read_summary(runs).deployments, 180, "a deployment")
                    ended = RunsFilter(statuses=[DagsterRunStatus.SUCCESS])
                    wait_until(lambda: instance.get_runs_count(ended) == 3, 60, "the end of the runs")
                    became = sorted((run.job_name, run.status.value) for run in instance.get_runs())
                except AssertionError as error:
                    pytest.fail(f"{error}\n{made.logs()}")
            summary = read_summary(runs)
            (pin,) = [pin for pin in summary.manifest.pins() if pin.tier == "inference"]
            table = EvidenceStore(EVIDENCE_URL).read_bytes(pin.uri, pin.sha256)
            measured_on = TierResult.from_table(pq.read_table(pa.BufferReader(table))).provenance["measured_on"]
            traced = edge.milton("trace")
            assert traced.returncode == 0, traced.stdout + traced.stderr
            # The host that made nothing has a bundle to deploy by hand, too.
            rehearsed = desk.milton("deploy", "--run", summary.run_id, "--no-load-test", "--dry-run")
            assert rehearsed.returncode == 0, rehearsed.stdout + rehearsed.stderr
            assert list(desk.state.bundles.glob("milton_edge_bundle_v1_*"))
            # A person's campaign hands its runs to the same workers, and knows who serves on the other host.
            conducted = desk.milton("autobench", "--new", DAGSTER_MODULE_NAME="tests.support.served_module")
            second = read_summary(runs)
            assert second.run_id > summary.run_id, conducted.stdout + conducted.stderr + made.logs()
            assert "benchmark_model of v1: handed to cpu-box" in conducted.stdout + conducted.stderr
    assert became == [
        ("benchmark_model", "FAILURE"),
        ("benchmark_model", "SUCCESS"),
        ("deploy", "SUCCESS"),
        ("promote", "SUCCESS"),
    ]
    assert (summary.decision.winner, [told.target for told in summary.deployments]) == ("v1", ["kitchen"])
    assert second.decision.incumbent == "v1"
    assert (edge.state.deployments / "kitchen" / "current").exists()
    assert measured_on["pool"] == "accelerator-cpu-box"
    assert not cpu.state.deployments.exists()
    assert not any(box.state.benchmarks.exists() for box in (desk, cpu, edge))
    assert left_behind(str(tmp_path)) == []
