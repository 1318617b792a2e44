"""The client's own limits: how many chunks a second one process and two take, and how much memory a million of them.

What belongs here: these measurements, each with the client in a process of its own. What does not: bias
(`bench_timing`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import psutil

from milton_assets.tiers.inference import ClosedLoad, InferencePlan, Prompt, measure_inference
from milton_assets.tiers.inference.client import measuring_here
from milton_assets.tiers.inference.truth import truth_server
from milton_assets.vocabulary.progress import Progress
from milton_assets.vocabulary.server import Endpoint

STREAMS, INTER_TOKEN_MS, TOKENS = 64, (12.0, 9.0, 7.0, 6.0, 5.0, 4.0, 3.5, 3.0), 400
PROCESSES = (1, 2)
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
    rates, several = (INTER_TOKEN_MS[:1], PROCESSES[:1]) if quick else (INTER_TOKEN_MS, PROCESSES)
    by_processes = {processes: _throughput(rates, processes) for processes in several}
    one, most = by_processes[several[0]]["chunks_per_s"], by_processes[several[-1]]["chunks_per_s"]
    return {
        **by_processes[1],
        "by_processes": by_processes,
        "two_processes_over_one": most / one if one and len(several) > 1 else None,
        **_memory(QUICK_MEMORY_CHUNKS if quick else MEMORY_CHUNKS),
    }


def _throughput(rates: Sequence[float], processes: int) -> dict[str, Any]:
    """The most chunks a second that the client took while it called its throughput valid, by rising rates.

    The rates end where the client was the bottleneck, or where the truth server sent no more than before: it has to
    share the cores with the client.
    """
    best: dict[str, Any] = {"chunks_per_s": 0.0, "cpu_share": 1.0}
    for inter_token_ms in rates:
        with ExitStack() as stack:
            with _preferred():
                server = stack.enter_context(
                    truth_server(first_token_ms=20, inter_token_ms=inter_token_ms, tokens=TOKENS)
                )
            told = _client("throughput", server.base_url, STREAMS, processes)
        reached = told["chunks"] / told["seconds"]
        if told["why_invalid"] is not None:
            return {**best, "bottleneck_at_chunks_per_s": reached, "why": told["why_invalid"]}
        if reached <= best["chunks_per_s"]:
            return {**best, "server_sent_chunks_per_s": reached}
        best = {
            "chunks_per_s": reached,
            "cpu_share": told["cpu_share"],
            "chunks_per_s_of_a_whole_core": told["chunks"] / (told["cpu_share"] * told["seconds"]),
        }
    return best


@contextmanager
def _preferred() -> Iterator[None]:
    """What is started in the block runs before all others where that is allowed.

    A client's processes prefer themselves; on two cores they would leave the truth server none to send with.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


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
        told = _client("memory", f"http://127.0.0.1:{server.server_address[1]}", MEMORY_REQUESTS, 1)
        server.shutdown()
    return {
        "memory_chunks": told["chunks"],
        "memory_growth_bytes": told["growth_bytes"],
        "memory_is_flat": told["growth_bytes"] < FLAT_BYTES and told["chunks"] == each * MEMORY_REQUESTS,
        "flood_chunks_per_s": told["chunks"] / told["seconds"],
    }


def _client(what: str, base_url: str, requests: int, processes: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), what, base_url, str(requests), str(processes)],
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


def _run_client(what: str, base_url: str, requests: int, processes: int) -> dict[str, Any]:
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
    with measuring_here(processes=lambda _: processes) as open_client:
        result = measure_inference(Endpoint(base_url, "flood"), plan, on_progress=listen, open_client=open_client)
    watcher.join()
    measured = result.samples[result.samples.phase == "measured"]
    if not measured.ok.all():
        raise SystemExit(f"requests failed: {result.provenance['errors']}")
    client, throughput = result.provenance["client"], result.metric("output_tokens_per_s")
    return {
        "why_invalid": None if throughput.valid else throughput.why,
        "chunks": int(measured.token_events.sum()),
        "seconds": client["measured_s"],
        "cpu_share": client["cpu_share"],
        "growth_bytes": max(sizes) - sizes[0],
    }


if __name__ == "__main__":
    print(json.dumps(_run_client(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:5]))))
