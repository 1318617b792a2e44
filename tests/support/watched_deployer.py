"""A deployer process that a test may kill while the target's guard watches.

What belongs here: its command line. What does not: the probe (`watching`).
"""

from __future__ import annotations

import sys
from pathlib import Path

from milton_assets.edge.deployment import EdgeTarget, HealthWindow, deploy
from tests.support.crashing import clock, healthy
from tests.support.watching import Steered


def main(bundle: str, target: str, mirror: str, log: str, go: str, rounds: str) -> None:
    """Deploy under a steered health window, as a process that a test may kill."""
    deploy(
        Path(bundle),
        EdgeTarget("edge", Path(target), Path(mirror)),
        load_test=healthy,
        health=HealthWindow(Steered(Path(log), Path(go)), int(rounds), interval_s=0),
        actor="a shell",
        now=clock,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
