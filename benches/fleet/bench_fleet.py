"""What a rollout takes: time, the controller's memory, devices until a bad release is noticed, false stops.

    python benches/fleet/bench_fleet.py [--devices 10000] [--rollouts 200]

A fleet of simulated devices (the real state machines, a simulated link and clock), a fifth of it offline, a twentieth
failing, some crashing, slow, corrupt, lying or flapping, is taken to a release. Then many rollouts of 300 devices, 32
at once: at the tolerable rate, how many the evidence stops although it should not; at worse ones, how many devices
begin until it does. It fails when more are stopped than the plan's error and three standard errors allow.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from milton_assets.edge.deployment import TargetStatus
from milton_assets.fleet.local import LocalMeans
from milton_assets.fleet.many import AT_ONCE, ask_each
from milton_assets.fleet.ssh import SshTarget
from milton_assets.fleet.target import DeployRequest, Target
from milton_assets.fleet.targets import Targets
from milton_assets.fleet.wire import GREETING, packed
from milton_assets.rollout.events import Event
from milton_assets.rollout.journal import parse
from milton_assets.rollout.plan import Gate, Member, Plan
from milton_assets.rollout.planning import in_order, waves_of
from milton_assets.rollout.simulate import BEGINS_AT, Fleet, Rates, release_named, simulate
from milton_assets.rollout.states import Stage
from milton_assets.vocabulary.chained import GENESIS, digest_of_line, line_bytes
from milton_assets.vocabulary.state import StateDir
from resources.inventory import inventory_of
from tests.support.crashing import healthy
from tests.support.edge_bundles import make_bundle

STATUS_GOAL_S = 5.0
TROUBLED = Rates(offline=0.2, failing=0.05, crashing=0.02, slow=0.02, corrupt=0.01, lying=0.001, flapping=0.05)


def plan_of(devices: int, waves: list[str], gate: Gate, at_once: int) -> Plan:
    """A plan for so many devices."""
    members = [Member(name=f"d{n}", labels=frozenset({"local"})) for n in range(devices)]
    return Plan(
        rollout="bench",
        release=release_named("v2").digest,
        model_version="v2",
        run_id="benchmark_20260111_142500",
        bundle="bundles/v2",
        members=in_order(members, "bench"),
        waves=waves_of(waves, members, gate),
        gate=gate,
        at_once=at_once,
    )


def one_large(devices: int) -> None:
    """Take a large fleet to a release, and print what that took."""
    plan = plan_of(devices, ["10%", "rest"], Gate(tolerable=0.1, intolerable=0.4), max(8, devices // 20))
    fleet = Fleet(plan, TROUBLED, seed=1)
    began = time.perf_counter()
    kept = simulate(fleet)
    took_s = time.perf_counter() - began
    state = kept.state
    ends = ", ".join(f"{count} {phase}" for phase, count in Counter(device.phase for device in state.each()).items())
    most = max((device.since for device in state.each() if device.phase == "stood"), default=BEGINS_AT) - BEGINS_AT
    print(f"{devices} devices: {state.stage}; {ends}")
    print(f"  the last that stood did so after {most.total_seconds() / 3600:.2f} simulated hours")
    print(f"  {len(kept.events)} events; {took_s:.1f} s of this machine, the simulated devices included")
    controller_of(kept.events)


def controller_of(events: Sequence[Event]) -> None:
    """Print what a controller that comes to the journal of these events takes: the reading's time, and memory."""
    lines, previous = [], GENESIS
    for number, event in enumerate(events):
        record = event.model_dump(mode="json")
        sha256 = digest_of_line(number, previous, record)
        lines.append(line_bytes(number, previous, record, sha256))
        previous = sha256
    raw = b"".join(lines)
    del lines
    began = time.perf_counter()
    parse(raw)
    took_s = time.perf_counter() - began
    tracemalloc.start()
    state = parse(raw).state
    kept_bytes, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert state is not None
    print(
        f"  a controller that comes to it reads its {len(raw) / 1e6:.0f} MB of journal in {took_s:.1f} s; memory: "
        f"{kept_bytes / 1e6:.0f} MB for the state, {peak_bytes / 1e6:.0f} MB at most while it reads"
    )


def many_small(rollouts: int) -> bool:
    """Print how many rollouts are stopped, and after how many devices; whether the false ones are few enough."""
    gate = Gate()
    plan = plan_of(300, ["rest"], gate, 32)
    few_enough = True
    for rate in (gate.tolerable, 0.1, gate.intolerable, 0.4):
        some = rollouts if rate == gate.tolerable else max(20, rollouts // 4)
        states = [simulate(Fleet(plan, Rates(failing=rate), seed=seed)).state for seed in range(some)]
        stopped = [state for state in states if state.stage is Stage.STOPPED]
        share = len(stopped) / some
        begun = f"{statistics.median(state.begun for state in stopped):.0f} devices begun" if stopped else "none"
        told = f"failure rate {rate:4.0%}: {share:6.1%} stopped, median {begun}"
        if rate == gate.tolerable:
            few_enough = share <= gate.beta + 3 * math.sqrt(gate.beta * (1 - gate.beta) / rollouts)
            told += f"; false stops, wanted at most {gate.beta:.0%}: {'kept' if few_enough else 'NOT KEPT'}"
        print(told)
    return few_enough


@dataclass(frozen=True)
class Waiting:
    """A `Link` to a stand-in for `ssh` and the agent behind it: says after `answer_s` what `file` holds, and ends when
    it is hung up on. What ssh itself takes of the processor for a connection is not in it."""

    file: Path
    answer_s: float

    def command(self, remote: str, *, fresh: bool = False) -> Sequence[str]:
        """See `Link`."""
        return ["sh", "-c", 'sleep "$1"; exec cat "$2" -', "device", str(self.answer_s), str(self.file)]


def status_of_all(targets: int, answer_s: float) -> None:
    """Print how long it takes to ask many targets what they serve, each of which takes so long to answer, and one that
    takes a hundred times as long: devices at the end of a connection, and folders of this machine."""
    print(
        f"status of {targets} targets that answer after {answer_s * 1000:.0f} ms, one after {answer_s * 100:.0f} s, "
        f"over {AT_ONCE} connections; wanted: at most {STATUS_GOAL_S:.0f} s"
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        state = StateDir(root / "state")
        first = Targets(state, LocalMeans(lambda: healthy, inventory_of), {"d0": str(root / "d0")})
        first.named("d0").deploy(make_bundle(root / "bundles", "v1"), DeployRequest(actor="bench", health_rounds=0))
        places = {f"d{number}": str(root / f"d{number}") for number in range(targets)}
        for place in list(places.values())[1:]:
            shutil.copytree(root / "d0", place, symlinks=True)
        said = first.named("d0").status().model_dump_json().encode()
        file = root / "said"
        file.write_bytes(GREETING + packed({"kind": "answer", "seq": 1}, said))

        def slow(number: int) -> float:
            return answer_s * (100 if number == 0 else 1)

        devices = [
            SshTarget(name, f"ssh://{name}", state, Waiting(file, slow(number)), "agent")
            for number, name in enumerate(places)
        ]
        asked("devices over a connection each", devices, lambda target: target.status(), answer_s)
        there = Targets(state, first.means, places)

        def ask(target: Target) -> TargetStatus:
            time.sleep(slow(int(target.name[1:])))
            return target.status()

        asked("folders of this machine", [there.named(name) for name in places], ask, answer_s)


def asked(what: str, targets: Sequence[Target], ask: Callable[[Target], TargetStatus], answer_s: float) -> None:
    """Ask them all, and print what it took, by the clock and of the processor."""
    began, spent, others = time.perf_counter(), time.process_time(), os.times()
    answers = ask_each(targets, ask, within_s=60)
    took_s, spent_s, now = time.perf_counter() - began, time.process_time() - spent, os.times()
    children_s = now.children_user + now.children_system - others.children_user - others.children_system
    least_s = max(len(targets) / AT_ONCE * answer_s, 100 * answer_s)
    served = sum(isinstance(one, TargetStatus) for one in answers)
    print(
        f"  {what}: {served} answers in {took_s:.1f} s, of which {least_s:.1f} s are waiting; processor: "
        f"{spent_s:.2f} s, {spent_s / len(targets) * 1000:.1f} ms a target"
        + (f", and {children_s:.2f} s of the stand-ins for ssh" if children_s > 0.01 else "")
    )


def main() -> None:
    """Run all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=10_000)
    parser.add_argument("--rollouts", type=int, default=200)
    given = parser.parse_args()
    status_of_all(1000, 0.03)
    one_large(given.devices)
    if not many_small(given.rollouts):
        sys.exit("more rollouts at the tolerable rate were stopped than the plan's error allows")


if __name__ == "__main__":
    main()
