"""The whole of it with real weights: `milton-serve` on a real target, swapped under load, ended by Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from milton_assets.edge.deployment import EdgeTarget, deploy
from milton_assets.edge.manifest import HealthContract, Probe
from milton_assets.vocabulary.server import ServingSettings
from tests.support.crashing import clock
from tests.support.edge_bundles import make_bundle
from tests.support.processes import left_behind

QUESTION = {"messages": [{"role": "user", "content": "Name the capital of France."}], "max_tokens": 24, "stream": True}
CONTRACT = HealthContract(
    probes=(Probe(prompt="Name the capital of France in one short sentence.", max_tokens=12),),
    served_with=ServingSettings(context_tokens=512, slots=2, threads=1),
)


@contextmanager
def serving(place: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`milton-serve` as a process of its own, and its address."""
    program = Path(sys.executable).with_name("milton-serve")
    process = subprocess.Popen(
        [program, "--target-path", place, "--port", "0", *options],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"MILTON_STATE_DIR": str(place.parent / "state")},
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        address = re.search(r"listening at (http://\S+)/v1", line)
        assert address, line + process.stderr.read()
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield address[1], process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.real_model
@pytest.mark.parametrize("mode", ["two", "one"])
def test_real_weights_are_swapped_under_load_and_ctrl_c_leaves_nothing(
    small_gguf: Path, tmp_path: Path, mode: str
) -> None:
    target = EdgeTarget("edge", tmp_path / "target")
    weights = small_gguf.read_bytes()
    for number in (1, 2):
        make_bundle(tmp_path / "bundles", f"v{number}", counter=number, weights=weights, health=CONTRACT)
    first, second = (tmp_path / "bundles" / f"milton_edge_bundle_v{n}_20260111_142500" for n in (1, 2))
    deploy(first, target, load_test=None, actor="ada", now=clock)
    seen: list[str] = []
    failed: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=120) as client:
            while not stop.is_set():
                try:
                    said = client.post(f"{url}/v1/chat/completions", json=QUESTION)
                    if said.status_code != 200 or not said.text.rstrip().endswith("data: [DONE]"):
                        failed.append(said.text[-300:])
                    seen.append(said.headers.get("x-milton-model-version", "none"))
                except httpx.HTTPError as error:
                    failed.append(repr(error))

    with serving(target.path, "--mode", mode) as (url, process):
        users = [threading.Thread(target=ask) for _ in range(3)]
        for user in users:
            user.start()
        wait(lambda: "v1" in seen)
        deploy(second, target, load_test=None, actor="ada", now=clock)
        wait(lambda: "v2" in seen)
        stop.set()
        for user in users:
            user.join(120)
        assert failed == []
        page = httpx.get(f"{url}/metrics").text
        assert re.search(r'time_to_first_token_seconds_count\{[^}]*gen_ai_response_model="v2"\} [1-9]', page)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert left_behind(str(target.path)) == []
    events = [json.loads(line) for line in (target.path / "health.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events] == ["started", "swapped", "swapped", "stopped"]


def wait(what: object, within_s: float = 120.0) -> None:
    deadline = time.monotonic() + within_s
    while not what():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.real_model
def test_a_model_server_that_was_killed_is_back_and_a_sigkill_of_the_gateway_leaves_nothing(
    small_gguf: Path, tmp_path: Path
) -> None:
    import psutil

    target = EdgeTarget("edge", tmp_path / "target")
    bundle = make_bundle(tmp_path / "bundles", "v1", weights=small_gguf.read_bytes(), health=CONTRACT)
    deploy(bundle, target, load_test=None, actor="ada", now=clock)
    with serving(target.path) as (url, process):
        assert httpx.post(f"{url}/v1/chat/completions", json=QUESTION, timeout=120).status_code == 200
        models = [
            p for p in psutil.Process(process.pid).children(recursive=True) if "embedded_llama.py" in str(p.cmdline())
        ]
        models[-1].kill()
        assert httpx.post(f"{url}/v1/chat/completions", json=QUESTION, timeout=120).status_code == 200
        died = [line for line in (target.path / "health.jsonl").read_text().splitlines() if '"server_died"' in line]
        assert "signal 9" in died[0]
        process.kill()
        assert left_behind(str(target.path)) == []
