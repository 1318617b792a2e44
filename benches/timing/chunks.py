"""The client's own limits: how many chunks a second one core takes, and how much memory a million of them.

What belongs here: both measurements, each with the client in a process of its own. What does not: bias
(`bench_timing`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import psutil

from milton_assets.tiers.inference import ClosedLoad, InferencePlan, Prompt, measure_inference
from milton_assets.tiers.inference.truth import truth_server
from milton_assets.tiers.inference.validity import MAX_CPU_SHARE
from milton_assets.vocabulary.progress import Progress
from milton_assets.vocabulary.server import Endpoint

STREAMS, INTER_TOKEN_MS, TOKENS = 64, (12.0, 9.0, 7.0, 6.0, 5.0), 400
MEMORY_CHUNKS, MEMORY_REQUESTS = 1_000_000, 8
QUICK_MEMORY_CHUNKS = 100_000
FLAT_BYTES = 8_000_000
_CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"flood",'
    b'"choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n'
)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def measure(*, quick: bool) -> dict[str, Any]:
    """Run both and return their figures."""
    rates = INTER_TOKEN_MS[:1] if quick else INTER_TOKEN_MS
    return {**_throughput(rates), **_memory(QUICK_MEMORY_CHUNKS if quick else MEMORY_CHUNKS)}


def _throughput(rates: Sequence[float]) -> dict[str, Any]:
    """The most chunks a second that the client took without marking itself the bottleneck, by rising rates."""
    best: dict[str, Any] = {"chunks_per_s": 0.0, "cpu_share": 1.0}
    for inter_token_ms in rates:
        with truth_server(first_token_ms=20, inter_token_ms=inter_token_ms, tokens=TOKENS) as server:
            told = _client("throughput", server.base_url, STREAMS)
        reached = told["chunks"] / told["seconds"]
        whole_core = told["chunks"] / (told["cpu_share"] * told["seconds"])
        if told["cpu_share"] > MAX_CPU_SHARE:
            return {**best, "bottleneck_at_chunks_per_s": reached}
        best = {
            "chunks_per_s": reached,
            "cpu_share": told["cpu_share"],
            "chunks_per_s_of_a_whole_core": whole_core,
        }
    return best


def _memory(chunks: int) -> dict[str, Any]:
    each = chunks // MEMORY_REQUESTS

    class Flood(StreamRequestHandler):
        def handle(self) -> None:
            length = 0
            while (line := self.rfile.readline().lower()) not in {b"\r\n", b""}:
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            self.rfile.read(length)
            self.wfile.write(_HEAD)
            for _ in range(each):
                self.wfile.write(_CHUNK)
            usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": each}}
            finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
            for event in (json.dumps(finish), json.dumps(usage), "[DONE]"):
                self.wfile.write(f"data: {event}\n\n".encode())

    with ThreadingTCPServer(("127.0.0.1", 0), Flood) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        told = _client("memory", f"http://127.0.0.1:{server.server_address[1]}", MEMORY_REQUESTS)
        server.shutdown()
    return {
        "memory_chunks": told["chunks"],
        "memory_growth_bytes": told["growth_bytes"],
        "memory_is_flat": told["growth_bytes"] < FLAT_BYTES and told["chunks"] == each * MEMORY_REQUESTS,
        "flood_chunks_per_s": told["chunks"] / told["seconds"],
    }


def _client(what: str, base_url: str, requests: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), what, base_url, str(requests)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=900,
    )
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def _plan(**changes: Any) -> InferencePlan:
    prompt = Prompt(id="flood", kind="factual", text="Go on.")
    settings = {
        "prompts": (prompt,),
        "min_rounds": 1,
        "max_rounds": 1,
        "budget_s": 3600,
        "request_timeout_s": 3600,
        "max_tokens": 10_000_000,
        "calibrate": False,
    }
    return InferencePlan(**(settings | changes))


def _run_client(what: str, base_url: str, requests: int) -> dict[str, Any]:
    load = ClosedLoad(concurrency=requests if what == "throughput" else 1)
    plan = _plan(load=load, requests_per_round=requests, warm_up_requests=1)
    process, warm, sizes, stop = psutil.Process(), threading.Event(), [], threading.Event()

    def watch() -> None:
        warm.wait()
        while not stop.wait(0.05):
            sizes.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()

    def listen(step: Progress) -> None:
        warm.set()
        if step.done == requests + 1:
            stop.set()

    # The warm-up request is as long as the others: what it filled stays, what grows after it would grow for ever. The
    # summing up at the end, whose size depends on no count of chunks, is left out.
    result = measure_inference(Endpoint(base_url, "flood"), plan, on_progress=listen)
    watcher.join()
    measured = result.samples[result.samples.phase == "measured"]
    if not measured.ok.all():
        raise SystemExit(f"requests failed: {result.provenance['errors']}")
    client = result.provenance["client"]
    return {
        "chunks": int(measured.token_events.sum()),
        "seconds": client["measured_s"],
        "cpu_share": client["cpu_share"],
        "growth_bytes": max(sizes) - sizes[0],
    }


if __name__ == "__main__":
    print(json.dumps(_run_client(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
