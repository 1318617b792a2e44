"""A server whose truth is known, run beside the client that is to be calibrated.

What belongs here: running the truth server, and what it says of each request. What does not: the difference between
that and what was measured (`calibrate`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from milton_assets.vocabulary.errors import ServerFailed

_PROGRAM = Path(__file__).with_name("truth_server.py")
TOKENS = 6
_FIRST_TOKEN_MS, _INTER_TOKEN_MS = 8.0, 2.0
_AT_FULL_PACE = 64


@dataclass(frozen=True)
class Pace:
    """When the tokens of a calibration request are due: the first, and each after it."""

    first_token_ms: float
    inter_token_ms: float

    @property
    def span_ms(self) -> float:
        """From first to last token."""
        return self.inter_token_ms * (TOKENS - 1)


def pace(concurrency: int) -> Pace:
    """The pace for so many streams: beyond 64 each is slower, so that all of them get 32,000 tokens a second at most.

    That is more than a client with one core reads, and about what a truth server can send.
    """
    stretch = max(1.0, concurrency / _AT_FULL_PACE)
    return Pace(_FIRST_TOKEN_MS * stretch, _INTER_TOKEN_MS * stretch)


@dataclass(frozen=True)
class Truth:
    """The true instants of one request (ns): it arrived, the first token went out, the last one, the end."""

    arrived_ns: int
    first_ns: int
    last_ns: int
    end_ns: int

    @property
    def ttft_ms(self) -> float:
        """True time to first token."""
        return (self.first_ns - self.arrived_ns) / 1e6

    @property
    def e2e_ms(self) -> float:
        """True end-to-end latency."""
        return (self.end_ns - self.arrived_ns) / 1e6

    def tpot_ms(self, tokens: int) -> float:
        """True time per output token."""
        return (self.last_ns - self.first_ns) / 1e6 / (tokens - 1)


class TruthServerProcess:
    """A running truth server. `truths` is filled once the block that started it has ended."""

    def __init__(self, port: int) -> None:
        self.base_url = f"http://127.0.0.1:{port}"
        self.truths: dict[int, Truth] = {}


@contextmanager
def truth_server(
    *, first_token_ms: float, inter_token_ms: float, tokens: int, role_first: bool = False, stamps: str = "kernel"
) -> Iterator[TruthServerProcess]:
    """Run the truth server in a process of its own, and read its log at the end. Raises `ServerFailed`."""
    options = [
        f"--first-token-ms={first_token_ms}",
        f"--inter-token-ms={inter_token_ms}",
        f"--tokens={tokens}",
        f"--stamps={stamps}",
    ]
    process = subprocess.Popen(
        [sys.executable, "-I", str(_PROGRAM), *options, *(["--role-first"] if role_first else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        port = (process.stdout.readline() if process.stdout else "").strip()
        if not port.isdigit():
            raise ServerFailed("the truth server did not start", remedy=f"run {_PROGRAM} and see what it says")
        server = TruthServerProcess(int(port))
        yield server
        log, _ = process.communicate("", timeout=10)
        server.truths = {
            number: Truth(*instants) for number, instants in enumerate(json.loads(log)) if None not in instants
        }
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
