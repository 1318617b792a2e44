"""The benchmark of the quality tiers tells a client that fills the slots from one that does not."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from milton_assets.tiers.retrieval import RetrievalPlan, load_goldens, measure_retrieval
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.server import Endpoint, RunningServer
from tests.support.scripted_server import Body, Reply, scripted_server

BENCH = Path(__file__).resolve().parents[2] / "benches" / "quality" / "bench_quality.py"
WORK_S = 0.03
PLAN = RetrievalPlan(max_queries=10, pool_size=4, resamples=200)


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_quality", BENCH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def working(_: dict[str, Any]) -> Reply:
    """An answer after some work, with llama.cpp's account of it."""
    time.sleep(WORK_S)
    listed = [{"token": "Yes", "logprob": -0.5}, {"token": "No", "logprob": -1.0}]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "Yes"},
        "finish_reason": "length",
        "logprobs": {"content": [{"token": "Yes", "logprob": -0.5, "top_logprobs": listed}]},
    }
    timings = {"prompt_ms": 1000 * WORK_S, "predicted_ms": 0.0}
    return Body({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 1}, "timings": timings})


def measured(bench: ModuleType, concurrency: int) -> Any:
    plan = PLAN.model_copy(update={"concurrency": concurrency})
    with scripted_server(working) as server:
        served = RunningServer(
            Endpoint(server.base_url, "scripted", slots=2), ServerFingerprint(name="scripted", slots=2)
        )
        return bench.utilisation(served, "retrieval", lambda chat: measure_retrieval(chat, load_goldens(), plan))


def test_a_client_that_asks_one_at_a_time_leaves_slots_empty_and_is_found_out(bench: ModuleType) -> None:
    alone = measured(bench, 1)
    assert alone.calls == 40
    assert alone.in_flight <= 1.0
    assert any("calls in flight" in fault for fault in alone.faults)
    assert "calls in flight" in alone.line()


def test_a_client_that_asks_as_many_as_there_are_slots_keeps_them_filled(bench: ModuleType) -> None:
    assert measured(bench, 2).in_flight > 1.1


@pytest.mark.parametrize(
    ("calls", "wall_s", "in_flight", "faults"),
    [(100, 10.0, 1.9, 0), (100, 10.0, 1.6, 1), (100, 12.0, 1.6, 2), (29, 10.0, 1.0, 0)],
)
def test_what_is_beyond_the_limits(bench: ModuleType, calls: int, wall_s: float, in_flight: float, faults: int) -> None:
    assert len(bench.Utilisation("retrieval", 2, calls, wall_s, 10.0, in_flight).faults) == faults
