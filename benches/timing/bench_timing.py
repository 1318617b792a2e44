"""How far from the truth: this project's inference tier, `vllm bench serve` and GuideLLM on one known server.

    python benches/timing/bench_timing.py [--quick] [--out FILE]          (make bench-timing)

A truth server streams on a schedule and logs when it really sent. Each tool measures it at concurrency 1, 16 and 64;
for every request, what the tool reported is compared with what was true (matched by the number in the text). This
project's tier then measures 512 streams, by as many processes as that wants here, and the client's own limits: chunks a
second by one process and by two, and memory over a million chunks. Prints tables, writes JSON, and exits 1 when a goal
of docs/timing.md is missed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benches.timing import chunks, peers
from milton_assets.tiers.inference.definitions import DEFINITIONS_VERSION
from milton_assets.tiers.inference.truth import Truth, truth_server

FIRST_TOKEN_MS, INTER_TOKEN_MS, TOKENS = 50.0, 10.0, 32
REQUESTS = {1: 100, 16: 480, 64: 960}
QUICK_REQUESTS = {1: 20, 16: 64, 64: 192}
MANY_STREAMS, QUICK_MANY_STREAMS = 512, 128
MANY_FIRST_TOKEN_MS, MANY_INTER_TOKEN_MS, QUICK_MANY_INTER_TOKEN_MS = 200.0, 100.0, 25.0
TTFT_GOALS_MS = {1: (0.3, 1.0), 16: (1.0, 3.0), 64: (3.0, 10.0), 128: (1.0, 5.0), 512: (1.0, 5.0)}
TPOT_GOAL_PERCENT = 0.5
CHUNKS_GOAL_PER_S = 5_000
DEFAULT_OUT = Path("build") / "bench-timing.json"


@dataclass(frozen=True)
class Bias:
    """Reported minus true: the median difference, and the 99th percentile of its magnitude."""

    median: float
    p99: float


@dataclass(frozen=True)
class Cell:
    """One tool at one concurrency. TTFT and end-to-end in ms, TPOT in per cent of the truth."""

    tool: str
    concurrency: int
    requests: int
    ttft_ms: Bias
    e2e_ms: Bias
    tpot_percent: Bias


def main() -> int:
    """Measure, print, write; 0 when every goal is met."""
    parser = argparse.ArgumentParser(description="Measure how far from the truth timing tools are.")
    parser.add_argument("--quick", action="store_true", help="Fewer requests: a look, not a result.")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="Where the JSON goes.")
    parser.add_argument("--only", action="append", choices=["milton", "vllm", "guidellm"], help="Leave others out.")
    parser.add_argument("--stamps", choices=["kernel", "process"], default="kernel", help="Who stamps the truth.")
    options = parser.parse_args()
    makers = {"milton": peers.milton, "vllm": peers.vllm, "guidellm": peers.guidellm}
    tools = [makers[name]() for name in options.only or makers]
    requests = QUICK_REQUESTS if options.quick else REQUESTS
    cells = [
        _cell(tool, concurrency, requests[concurrency], options.stamps) for concurrency in requests for tool in tools
    ]
    streams, every_ms = (
        (QUICK_MANY_STREAMS, QUICK_MANY_INTER_TOKEN_MS) if options.quick else (MANY_STREAMS, MANY_INTER_TOKEN_MS)
    )
    many = _many(streams, every_ms, options.stamps)
    limits = chunks.measure(quick=options.quick)
    missed = _missed([*cells, many], limits)
    report = {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "definitions_version": DEFINITIONS_VERSION,
        "machine": {"cpus": psutil.cpu_count(), "kernel": platform.release(), "load_1m": psutil.getloadavg()[0]},
        "truth": {
            "first_token_ms": FIRST_TOKEN_MS,
            "inter_token_ms": INTER_TOKEN_MS,
            "tokens": TOKENS,
            "stamps": options.stamps,
        },
        "cells": [asdict(cell) for cell in cells],
        "many_streams": asdict(many),
        "client": limits,
        "missed_goals": missed,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    _print([*cells, many], limits, missed)
    print(f"written to {options.out}")
    return 1 if missed else 0


def _many(streams: int, inter_token_ms: float, stamps: str) -> Cell:
    """This project's tier at hundreds of streams, at a rate that leaves two cores room for the truth server."""
    tool = peers.milton()
    print(f"{tool.name} at concurrency {streams}", file=sys.stderr, flush=True)
    with truth_server(
        first_token_ms=MANY_FIRST_TOKEN_MS, inter_token_ms=inter_token_ms, tokens=TOKENS, stamps=stamps
    ) as server:
        rows = tool.measure(server.base_url, streams, 2 * streams)
    return _compare(tool.name, streams, rows, server.truths)


def _cell(tool: peers.Tool, concurrency: int, requests: int, stamps: str) -> Cell:
    print(f"{tool.name} at concurrency {concurrency}: {requests} requests", file=sys.stderr, flush=True)
    with truth_server(
        first_token_ms=FIRST_TOKEN_MS, inter_token_ms=INTER_TOKEN_MS, tokens=TOKENS, stamps=stamps
    ) as server:
        rows = tool.measure(server.base_url, concurrency, requests)
    if len(rows) < requests:
        raise peers.PeerFailed(f"{tool.name} measured {len(rows)} of {requests} requests at concurrency {concurrency}")
    return _compare(tool.name, concurrency, rows, server.truths)


def _compare(name: str, concurrency: int, rows: Sequence[Mapping[str, Any]], truths: Mapping[int, Truth]) -> Cell:
    pairs = [(row, truths[int(row["text"].split()[0])]) for row in rows]
    return Cell(
        name,
        concurrency,
        len(pairs),
        ttft_ms=_bias([row["ttft_ms"] - truth.ttft_ms for row, truth in pairs]),
        e2e_ms=_bias([row["e2e_ms"] - truth.e2e_ms for row, truth in pairs]),
        tpot_percent=_bias([(row["tpot_ms"] / truth.tpot_ms(TOKENS) - 1) * 100 for row, truth in pairs]),
    )


def _bias(differences: Sequence[float]) -> Bias:
    return Bias(float(np.median(differences)), float(np.quantile(np.abs(differences), 0.99)))


def _missed(cells: Sequence[Cell], limits: Mapping[str, Any]) -> list[str]:
    ours = {cell.concurrency: cell for cell in cells if cell.tool == "milton"}
    missed = []
    for concurrency, cell in ours.items():
        for what, found, goal in zip(
            ("median", "p99"), (abs(cell.ttft_ms.median), cell.ttft_ms.p99), TTFT_GOALS_MS[concurrency], strict=True
        ):
            if found > goal:
                missed.append(f"TTFT {what} at {concurrency} is {found:.3f} ms off, the goal is {goal} ms")
        if max(abs(cell.tpot_percent.median), cell.tpot_percent.p99) > TPOT_GOAL_PERCENT:
            missed.append(f"TPOT at {concurrency} is up to {cell.tpot_percent.p99:.2f} % off")
        for peer in cells:
            if peer.concurrency == concurrency and peer.tool != "milton":
                missed += [f"{peer.tool} is ahead at {concurrency} in {where}" for where in _ahead(peer, cell)]
    if limits["chunks_per_s"] < CHUNKS_GOAL_PER_S:
        missed.append(f"{limits['chunks_per_s']:.0f} chunks/s, the goal is {CHUNKS_GOAL_PER_S}")
    if not limits["memory_is_flat"]:
        missed.append(f"memory grew by {limits['memory_growth_bytes']} bytes over {limits['memory_chunks']} chunks")
    return missed


def _ahead(peer: Cell, ours: Cell) -> list[str]:
    theirs, mine = peer.ttft_ms, ours.ttft_ms
    pairs = {"median": (abs(theirs.median), abs(mine.median)), "p99": (theirs.p99, mine.p99)}
    return [f"TTFT {what}" for what, (their_bias, our_bias) in pairs.items() if their_bias < our_bias]


def _print(cells: Sequence[Cell], limits: Mapping[str, Any], missed: Sequence[str]) -> None:
    print("\nreported - true, median / p99 of the magnitude")
    print(f"{'concurrency':>11}  {'tool':<17} {'TTFT ms':>18} {'end-to-end ms':>18} {'TPOT %':>18}")
    for cell in sorted(cells, key=lambda cell: cell.concurrency):
        shown = [f"{b.median:+.3f} / {b.p99:.3f}" for b in (cell.ttft_ms, cell.e2e_ms, cell.tpot_percent)]
        print(f"{cell.concurrency:>11}  {cell.tool:<17} {shown[0]:>18} {shown[1]:>18} {shown[2]:>18}")
    print()
    for processes, one in limits["by_processes"].items():
        print(f"{one['chunks_per_s']:.0f} chunks/s by {processes}, at {one['cpu_share']:.0%} of a core")
    if (ratio := limits["two_processes_over_one"]) is not None:
        print(f"two processes over one: {ratio:.2f}")
    print(f"memory grew by {limits['memory_growth_bytes'] / 1e6:.1f} MB over {limits['memory_chunks']} chunks")
    for goal in missed:
        print(f"missed: {goal}")
    print("every goal is met" if not missed else "")


if __name__ == "__main__":
    sys.exit(main())
