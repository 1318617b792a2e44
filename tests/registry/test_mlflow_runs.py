"""A campaign told to a real MLflow server: a run a model, figures with their intervals, the report."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from milton_assets.selection.summary import RunSummary, read_summary
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.tier import TierResult
from resources.evidence_store import EvidenceStore
from tests.support.workplace import Workplace, broken, competent, workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("mlflow")]
RUN = "benchmark_20260111_142500"
EXPERIMENT = "of the tests"


@pytest.fixture(scope="module")
def decided(mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A workplace whose campaign over a good and a broken model was told to the server while it went on."""
    settings = {"MILTON_MLFLOW_URL": f"http://{mlflow_server}", "MILTON_MLFLOW_EXPERIMENT": EXPERIMENT}
    with workplace(tmp_path_factory.mktemp("told"), settings=settings) as made:
        made.register("good", competent())
        made.register("bad", broken, seed=1)
        steps = (("benchmark_model", "good"), ("benchmark_model", "bad"), ("promote", RUN), ("deploy", "local"))
        for job, partition in steps:
            assert made.run(job, partition).success, (job, partition)
        yield made


@pytest.fixture
def summary(decided: Workplace) -> RunSummary:
    return read_summary(decided.state.runs, RUN)


def asked(server: str, path: str, **body: Any) -> Any:
    """What the server's own API answers."""
    return httpx.post(f"http://{server}/api/2.0/mlflow{path}", json=body, timeout=30).raise_for_status().json()


def runs_of(server: str) -> dict[str, dict[str, Any]]:
    """The experiment's runs by name, with their data by key."""
    query = {"experiment_name": EXPERIMENT}
    url = f"http://{server}/api/2.0/mlflow/experiments/get-by-name"
    experiment = httpx.get(url, params=query, timeout=30).raise_for_status().json()["experiment"]["experiment_id"]
    found = asked(server, "/runs/search", experiment_ids=[experiment])["runs"]
    assert len(found) == len({run["info"]["run_name"] for run in found})
    return {
        run["info"]["run_name"]: {
            "info": run["info"],
            **{
                part: {p["key"]: p["value"] for p in run["data"].get(part, [])}
                for part in ("metrics", "params", "tags")
            },
        }
        for run in found
    }


def test_a_campaign_is_a_run_with_its_outcome_and_a_run_a_model_below_it(decided, mlflow_server, summary):
    runs = runs_of(mlflow_server)
    assert set(runs) == {RUN, "good", "bad"}
    above = runs[RUN]
    assert above["info"]["status"] == "FINISHED"
    assert above["tags"]["milton.winner"] == "good"
    assert above["tags"]["milton.decision_sha256"] == summary.decision.digest()
    assert above["tags"]["milton.deployed_to"] == "local"
    assert "PROMOTE good" in above["tags"]["mlflow.note.content"]
    assert {runs[name]["tags"]["mlflow.parentRunId"] for name in ("good", "bad")} == {above["info"]["run_id"]}


def test_every_figure_of_the_evidence_is_a_metric_with_its_interval(decided, mlflow_server):
    told = runs_of(mlflow_server)["good"]["metrics"]
    counted = 0
    for tier in ("inference", "reasoning", "retrieval"):
        file = EvidenceStore(str(decided.state.benchmarks)).latest(f"{tier}_metrics", "good")
        for metric in TierResult.from_table(file.read()).metrics:
            if metric.value is None or not metric.valid:
                continue
            key = f"{tier}/{metric.name.replace('@', '_at_')}"
            assert told[key] == pytest.approx(metric.value)
            if metric.interval is not None:
                counted += 1
                assert (told[f"{key}/low"], told[f"{key}/high"]) == pytest.approx(
                    (metric.interval.low, metric.interval.high)
                )
    assert counted > 10


def test_a_figure_that_could_not_be_had_is_named_with_its_reason_and_is_no_metric(decided, mlflow_server):
    bad = runs_of(mlflow_server)["bad"]
    assert "inference/ttft_ms.median" not in bad["metrics"]
    assert "inference/ttft_ms.median: " in bad["tags"]["milton.not_told"]


def test_the_report_is_kept_with_the_campaigns_run(decided, mlflow_server, summary):
    uri = runs_of(mlflow_server)[RUN]["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
    kept = httpx.get(f"http://{mlflow_server}/api/2.0/mlflow-artifacts/artifacts/{uri}/report.html", timeout=30)
    assert kept.raise_for_status().content == (decided.state.runs / f"{RUN}.html").read_bytes()


def milton(state: StateDir, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("milton"), "mlflow", *words]
    told = {"PATH": "", "HOME": str(state.root), "MILTON_STATE_DIR": str(state.root), **environment}
    return subprocess.run(command, env=told, capture_output=True, text=True, check=False)


def test_the_verb_tells_it_again_and_nothing_is_there_twice(decided, mlflow_server):
    before = runs_of(mlflow_server)
    named = {"MILTON_MLFLOW_URL": f"http://{mlflow_server}/", "MILTON_MLFLOW_EXPERIMENT": EXPERIMENT}
    done = milton(decided.state, RUN, "--json", **named)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["models"], told["left_out"]) == (2, None)
    assert told["address"].endswith(before[RUN]["info"]["run_id"])
    assert {name: run["metrics"] for name, run in runs_of(mlflow_server).items()} == {
        name: run["metrics"] for name, run in before.items()
    }


def test_a_server_that_is_not_there_is_said_and_so_is_that_none_is_named(decided):
    away = milton(decided.state, RUN, MILTON_MLFLOW_URL="http://127.0.0.1:9")
    assert away.returncode == 1
    assert "http://127.0.0.1:9 does not answer" in away.stderr and "correct mlflow.url" in away.stderr
    assert "no MLflow server is named" in milton(decided.state, RUN).stderr
