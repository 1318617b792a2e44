"""Probes that a target's guard can be given: importable, and steered through files.

What belongs here: such probes, and waiting for what they lead to. What does not: the deployer that is killed while one
of them watches (`watched_deployer`), and assertions.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from milton_assets.edge.deployment.states import ProbeReport
from milton_assets.edge.manifest import HealthContract
from tests.support.crashing import ailing, healthy


@dataclass(frozen=True)
class Steered:
    """Notes in `log` that it was asked and by which process, waits for the file `go`, then says what it says."""

    log: Path
    go: Path

    def __call__(self, artefact: Path, model: str, contract: HealthContract) -> ProbeReport:
        """`well` in `go` means a report without problems."""
        with self.log.open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        while not self.go.exists():
            time.sleep(0.02)
        return (healthy if self.go.read_text() == "well" else ailing)(artefact, model, contract)


@dataclass(frozen=True)
class Crashing:
    """A probe that takes its process down with it."""

    def __call__(self, artefact: Path, model: str, contract: HealthContract) -> ProbeReport:
        """Never returns."""
        sys.stderr.write("the device is on fire\n")
        sys.stderr.flush()
        os._exit(7)


def until(condition: Callable[[], bool], deadline_s: float = 40.0) -> None:
    """Wait until it is so. Raises `AssertionError` when it never comes to that."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)
