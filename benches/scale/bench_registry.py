"""How long a registry of thousands of entries takes: the sensor's tick, `milton registry list`, and the web UI's page.

    python -m benches.scale.bench_registry [--entries 2000]

Registers that many entries, each a small GGUF of its own, in a temporary state folder, lets the sensor hash them in as
many ticks as it needs, and prints what a tick takes once they are hashed: while there is something to ask for, and when
nothing changed, beside one with a tenth of the entries. Then every entry has its partition and its event, a web server
is started, and it is asked what the page of an asset's partitions asks: the first answer counts. Fails when a tick
takes more than 5 s, the list more than 3 or the page more than 2.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from dagster import AssetKey, AssetMaterialization, DagsterInstance, SensorEvaluationContext, build_sensor_context

from milton_assets.definitions import build_defs
from milton_assets.partitions import MODEL_VERSIONS
from milton_assets.vocabulary.state import StateDir
from resources.evidence_log import REGISTRY_ENTRY_ASSET
from resources.registries.json_file import add_entries, new_entry
from resources.servers.process import free_port
from tests.support.gguf_file import tiny_gguf

MOST_TICK_S = 5.0
MOST_LIST_S = 3.0
MOST_PAGE_S = 2.0
UI_DEADLINE_S = 120.0

LOADED = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"
"""What says whether the graph is loaded: on a busy machine the server answers before."""

PAGE = """query PartitionHealthQuery($assetKey: AssetKeyInput!) {
  assetNodeOrError(assetKey: $assetKey) { ... on AssetNode { id
  partitionKeysByDimension { name type partitionKeys }
  assetPartitionStatuses { ... on DefaultPartitionStatuses {
    materializedPartitions materializingPartitions failedPartitions } } } } }"""
"""What the web UI's page of an asset's partitions asks."""


@dataclass(frozen=True)
class Seconds:
    """The longest tick that asks for runs, entries hashed; one that finds nothing new; the list; the UI's page, first
    asked and asked again."""

    asking: float
    idle: float
    listing: float
    page: float
    page_again: float


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
    resources = defs.resources or {}
    context: SensorEvaluationContext = build_sensor_context(
        instance_ref=instance.get_ref(),
        cursor=cursor,
        repository_def=defs.get_repository_def(),
        resources={key: resources[key] for key in ("registry", "campaign")},
    )
    sensor = defs.resolve_sensor_def("registry_sensor")
    with context:
        began = time.perf_counter()
        data = sensor.evaluate_tick(context)
    return time.perf_counter() - began, data.cursor or cursor, len(data.run_requests or ())


@contextmanager
def web_server(home: Path, state: StateDir) -> Iterator[str]:
    """The web UI's server on that Dagster home; its GraphQL address, once it has loaded the graph."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("dagster-webserver")), "-h", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "DAGSTER_HOME": str(home), "MILTON_STATE_DIR": str(state.root)}
    log = (home / "web.log").open("wb")
    process = subprocess.Popen(
        [*command, "-m", "milton_assets.definitions"], env=environment, stdout=log, stderr=subprocess.STDOUT
    )
    address, deadline = f"http://127.0.0.1:{port}/graphql", time.monotonic() + UI_DEADLINE_S
    try:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                said = httpx.post(address, json={"query": LOADED}, timeout=10).raise_for_status().json()
            except httpx.HTTPError:
                time.sleep(0.3)
                continue
            if said["data"]["repositoriesOrError"].get("nodes"):
                yield address
                return
            time.sleep(0.3)
        told = (home / "web.log").read_text()
        raise SystemExit(f"the web server had no graph within {UI_DEADLINE_S:g} s: {told}")
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def page_s(address: str, count: int) -> float:
    """How long the page of the entries' partitions takes, which must name every one of them."""
    asked: dict[str, Any] = {"query": PAGE, "variables": {"assetKey": {"path": [REGISTRY_ENTRY_ASSET]}}}
    began = time.perf_counter()
    node = httpx.post(address, json=asked, timeout=120).json()["data"]["assetNodeOrError"]
    took = time.perf_counter() - began
    known = len(node["partitionKeysByDimension"][0]["partitionKeys"])
    made = len(node["assetPartitionStatuses"]["materializedPartitions"])
    if (known, made) != (count, count):
        raise SystemExit(f"the page names {known} partitions and {made} of them made; expected {count}")
    return took


def measure(count: int, folder: Path) -> Seconds:
    """Everything, with that many entries."""
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
        versions = [f"m{number:05}" for number in range(count)]
        instance.add_dynamic_partitions(str(MODEL_VERSIONS.name), versions)
        for version in versions:
            made = AssetMaterialization(AssetKey(REGISTRY_ENTRY_ASSET), partition=version)
            instance.report_runless_asset_event(made)
    command = [sys.executable, "-c", "from milton_assets.cli.app import main; main()", "registry", "list"]
    began = time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "MILTON_STATE_DIR": str(state.root)}
    )
    listing = time.perf_counter() - began
    with web_server(home, state) as address:
        return Seconds(asking, idle, listing, page_s(address, count), page_s(address, count))


def main() -> int:
    """Run the bench; 0 when within the limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=2000)
    count = parser.parse_args().entries
    found = {}
    for number in (count // 10, count):
        with TemporaryDirectory(prefix="milton-bench-") as folder:
            found[number] = measure(number, Path(folder))
        took = found[number]
        print(
            f"{number:>7,} entries: tick {took.asking:6.2f} s asking, {took.idle:6.2f} s idle; registry list "
            f"{took.listing:6.2f} s; the UI's partitions {took.page:6.2f} s first, {took.page_again:6.2f} s again",
            flush=True,
        )
    few, many = found[count // 10], found[count]
    ratios = ", ".join(f"{b / a:.1f}" for a, b in zip(astuple(few), astuple(many), strict=True))
    print(f"ten times the entries take {ratios} times as long")
    within = max(many.asking, many.idle) <= MOST_TICK_S and many.listing <= MOST_LIST_S and many.page <= MOST_PAGE_S
    print("within the limits" if within else "OVER THE LIMITS")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
