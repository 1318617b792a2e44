"""How long a registry of thousands of entries takes: the sensor's tick, and `milton registry list`.

    python benches/scale/bench_registry.py [--entries 2000]

Registers that many entries, each a small GGUF of its own, in a temporary state folder, lets the sensor hash them in as
many ticks as it needs, and prints what a tick takes once they are hashed: while there is something to ask for, and when
nothing changed, beside one with a tenth of the entries. Fails when a tick takes more than 5 s or the list more than 3.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from dagster import DagsterInstance, SensorEvaluationContext, build_sensor_context

from milton_assets.definitions import build_defs
from milton_assets.vocabulary.state import StateDir
from resources.registries.json_file import add_entries, new_entry
from tests.support.gguf_file import tiny_gguf

MOST_TICK_S = 5.0
MOST_LIST_S = 3.0


def fill(state: StateDir, count: int) -> None:
    """Register `count` models, each a small file of its own."""
    entries = {}
    for number in range(count):
        path = state.root / "models" / "quantized" / f"m{number:05}" / "model-f32.gguf"
        path.parent.mkdir(parents=True)
        tiny_gguf(path, seed=number)
        entries[f"m{number:05}"] = new_entry("org/base", gguf=str(path.relative_to(state.root)))
    add_entries(state.registry, entries)


def tick(instance: DagsterInstance, state: StateDir, cursor: str | None) -> tuple[float, str | None, int]:
    """One tick of the registry sensor: the seconds, the cursor it leaves, and how many runs it asks for."""
    defs = build_defs(environment={"MILTON_STATE_DIR": str(state.root)})
    context: SensorEvaluationContext = build_sensor_context(
        instance_ref=instance.get_ref(),
        cursor=cursor,
        repository_def=defs.get_repository_def(),
        resources={key: defs.resources[key] for key in ("registry", "campaign")},
    )
    began = time.perf_counter()
    data = defs.resolve_sensor_def("registry_sensor").evaluate_tick(context)
    return time.perf_counter() - began, data.cursor or cursor, len(data.run_requests or ())


def measure(count: int, folder: Path) -> tuple[float, float, float]:
    """Seconds of the longest tick that asks for runs once hashed, of one that finds nothing new, and of the list."""
    state, home = StateDir(folder / "state"), folder / "dagster"
    home.mkdir()
    fill(state, count)
    time.sleep(2.5)  # what changed just now is not remembered
    with DagsterInstance.local_temp(str(home), {"telemetry": {"enabled": False}}) as instance:
        tick(instance, state, None)
        asking, cursor, asked = 0.0, None, 1
        while asked:
            took, cursor, asked = tick(instance, state, cursor)
            asking, idle = (max(asking, took), took) if asked else (asking, took)
    command = [sys.executable, "-c", "from milton_assets.cli.app import main; main()", "registry", "list"]
    began = time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "MILTON_STATE_DIR": str(state.root)}
    )
    return asking, idle, time.perf_counter() - began


def main() -> int:
    """Run the bench; 0 when within the limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=2000)
    count = parser.parse_args().entries
    found = {}
    for number in (count // 10, count):
        with TemporaryDirectory(prefix="milton-bench-") as folder:
            found[number] = measure(number, Path(folder))
        asking, idle, listing = found[number]
        print(f"{number:>7,} entries: tick {asking:6.2f} s asking, {idle:6.2f} s idle; registry list {listing:6.2f} s")
    few, many = found[count // 10], found[count]
    ratios = ", ".join(f"{b / a:.1f}" for a, b in zip(few, many, strict=True))
    print(f"ten times the entries take {ratios} times as long")
    return 0 if max(many[:2]) <= MOST_TICK_S and many[2] <= MOST_LIST_S else 1


if __name__ == "__main__":
    sys.exit(main())
