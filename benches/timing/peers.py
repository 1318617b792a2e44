"""The tools we are compared with, each in an environment of its own outside the clone.

What belongs here: making those environments once, and having each tool measure one cell. What does not: the comparison
(`bench_timing`).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GUIDELLM = ("torch==2.13.0", "guidellm==0.8.1")
_CELL_TIMEOUT_S = 600

Rows = list[dict[str, Any]]


class PeerFailed(RuntimeError):
    """A tool that could not be installed or run; its last lines are in the message."""


@dataclass(frozen=True)
class Tool:
    """A tool and how it measures one cell: (base_url, concurrency, requests) to rows with text and milliseconds."""

    name: str
    measure: Callable[[str, int, int], Rows]


def milton() -> Tool:
    """This project's tier."""

    def measure(base_url: str, concurrency: int, requests: int) -> Rows:
        return _driven(Path(sys.executable), HERE / "drive_milton.py", base_url, concurrency, requests)

    return Tool("milton", measure)


def vllm() -> Tool:
    """`vllm bench serve`, in the environment in which the tests run vLLM."""
    told = _run([sys.executable, str(ROOT / "tests" / "vllm" / "vllm_env.py")], timeout_s=3600)
    python = Path(told.strip().splitlines()[-1])

    def measure(base_url: str, concurrency: int, requests: int) -> Rows:
        return _driven(python, HERE / "drive_vllm.py", base_url, concurrency, requests)

    return Tool("vllm bench serve", measure)


def guidellm() -> Tool:
    """GuideLLM. Its time per output token counts the first token in; its inter-token latency is what others call so."""
    program = _environment("guidellm-0.8.1", GUIDELLM) / "bin" / "guidellm"

    def measure(base_url: str, concurrency: int, requests: int) -> Rows:
        with tempfile.TemporaryDirectory(prefix="bench-timing-") as folder:
            return _guidellm(program, Path(folder), base_url, concurrency, requests)

    return Tool("GuideLLM", measure)


def _guidellm(program: Path, folder: Path, base_url: str, concurrency: int, requests: int) -> Rows:
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"[{n}] Tell me of rivers."}) + "\n" for n in range(requests)))
    _run(
        [
            str(program),
            "run",
            "--backend",
            f"kind=openai_http,target={base_url},model=truth",
            "--profile",
            f"kind=concurrent,streams={concurrency}",
            "--constraint",
            f"kind=max_requests,count={requests}",
            "--data",
            f"kind=json_file,path={prompts}",
            "--output",
            f"kind=json,path={folder / 'report.json'}",
            "--disable-console",
        ],
        cwd=folder,
    )
    report = json.loads((folder / "report.json").read_text())
    return [
        {
            "text": one["output"],
            "ttft_ms": one["time_to_first_token_ms"],
            "tpot_ms": one["inter_token_latency_ms"],
            "e2e_ms": one["request_latency"] * 1e3,
        }
        for benchmark in report["benchmarks"]
        for one in benchmark["requests"]["successful"]
    ]


def _driven(python: Path, driver: Path, base_url: str, concurrency: int, requests: int) -> Rows:
    told = _run([str(python), str(driver), base_url, str(concurrency), str(requests)])
    rows: Rows = json.loads(told.strip().splitlines()[-1])["rows"]
    return rows


def _environment(name: str, packages: tuple[str, ...]) -> Path:
    """The virtual environment of that name below the cache folder, made when it is not there whole."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "milton"
    cache.mkdir(parents=True, exist_ok=True)
    folder, marker = cache / name, cache / name / "milton-whole"
    with (cache / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists():
            print(f"making {folder}, once: {', '.join(packages)}", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(folder)])
            _run([str(folder / "bin" / "pip"), "install", "--quiet", *packages], timeout_s=3600)
            marker.touch()
    return folder


def _run(command: list[str], *, timeout_s: float = _CELL_TIMEOUT_S, cwd: Path | None = None) -> str:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONPATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, cwd=cwd, env=environment)
    if done.returncode != 0:
        raise PeerFailed(f"{command[0]} ended with {done.returncode}:\n" + "\n".join(done.stderr.splitlines()[-15:]))
    return done.stdout
