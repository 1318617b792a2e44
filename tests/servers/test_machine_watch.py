"""Watching the machine: what disturbs a measurement, what does not, and what becomes of the figures."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from milton_assets.tiers.inference.plan import InferencePlan
from milton_assets.usecases.measuring import ATTEMPTS, measure_tier
from milton_assets.vocabulary.golden_set import read_goldens
from milton_assets.vocabulary.machine import Seen
from milton_assets.vocabulary.metric import Metric, Status
from milton_assets.vocabulary.server import Endpoint, RunningServer, ServerFingerprint
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Measuring
from resources.machine_watch import GpuState, MachineWatch, watch_of
from tests.support.burning import burners
from tests.support.scripted_server import answer, scripted_server
from tests.support.tiers import TIERS

SERVER, STRANGER = 4242, 7
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Machine:
    """Two cores' counters as the kernel writes them, in files below `root`; `run` lets time go by."""

    root: Path
    at_s: float = 0.0
    user_s: float = 0.0
    idle_s: float = 0.0
    steal_s: float = 0.0
    swapped_in: int = 0
    throttled: int = 0
    stalled_us: dict[str, int] = field(default_factory=lambda: {"cpu": 0, "memory": 0, "io": 0})
    works_s: dict[int, float] = field(default_factory=lambda: {os.getpid(): 0.0, SERVER: 0.0, STRANGER: 0.0})

    def write(self) -> None:
        cpu = [self.user_s, 0, 0, self.idle_s, 0, 0, 0, self.steal_s, 0, 0]
        proc, throttle = self.root / "proc", self.root / "sys/devices/system/cpu/cpu0/thermal_throttle"
        for folder in (proc / "pressure", throttle):
            folder.mkdir(parents=True, exist_ok=True)
        (proc / "stat").write_text(
            f"cpu  {' '.join(str(int(s * TICKS)) for s in cpu)}\ncpu0 0 0 0 0\nprocs_running 3\nprocs_blocked 0\n"
        )
        for name, us in self.stalled_us.items():
            (proc / "pressure" / name).write_text(f"some avg10=0.00 avg60=0.00 avg300=0.00 total={us}\n")
        (proc / "vmstat").write_text(f"nr_free_pages 1\npswpin {self.swapped_in}\npswpout 0\n")
        (throttle / "core_throttle_count").write_text(f"{self.throttled}\n")
        for pid, seconds in self.works_s.items():
            (proc / str(pid)).mkdir(exist_ok=True)
            parent = os.getpid() if pid == SERVER else 1
            numbers = [parent, *[0] * 9, int(seconds * TICKS), 0, 0, 0]
            (proc / str(pid) / "stat").write_text(f"{pid} (a ) name) S {' '.join(map(str, numbers))}\n")

    def run(self, seconds: float = 10.0, *, ours: float = 0.0, others: float = 0.0, steal: float = 0.0) -> None:
        """`seconds` go by, of two cores; shares are of both together."""
        total = 2 * seconds
        self.at_s += seconds
        self.user_s += total * (ours + others)
        self.steal_s += total * steal
        self.idle_s += total * (1 - ours - others - steal)
        self.works_s[os.getpid()] += total * ours / 4
        self.works_s[SERVER] += total * ours * 3 / 4
        self.works_s[STRANGER] += total * others
        self.write()

    def watch(self) -> MachineWatch:
        self.write()
        return MachineWatch(proc=self.root / "proc", sys=self.root / "sys", interval_s=3600, now=lambda: self.at_s)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def seen_of(watch: MachineWatch, machine: Machine, **what: float) -> Seen:
    with watch.watching() as seen:
        machine.run(**what)
    return seen


FIRMWARE = "devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"
BOARDS = {
    "a board's heat": {
        "class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
        "class/thermal/cooling_device0/cur_state": "2\n",
    },
    "a Raspberry Pi's heat": {FIRMWARE: "e000e\n"},
    "a Raspberry Pi's supply": {FIRMWARE: "50005\n"},
}
"""Below /sys: what boards tell that do not count how often they were slowed."""


def test_a_server_and_a_client_that_use_every_core_disturb_nobody(machine: Machine) -> None:
    machine.stalled_us["cpu"] = 0
    with machine.watch().watching() as seen:
        machine.stalled_us["cpu"] = 9_000_000
        machine.run(ours=0.98, others=0.02)
    assert seen.complaint() is None
    assert seen.busy_share == pytest.approx(1.0)
    assert seen.others_share == pytest.approx(0.02, abs=0.005)
    assert seen.stalled_shares["cpu"] == pytest.approx(0.9)


def test_others_who_want_the_cores_disturb(machine: Machine) -> None:
    complaint = seen_of(machine.watch(), machine, ours=0.5, others=0.5).complaint()
    assert complaint is not None
    assert "busy with something else for 10 of 10 s (other processes wanted the cores)" in complaint


def test_others_who_leave_a_core_idle_disturb_nobody(machine: Machine) -> None:
    assert seen_of(machine.watch(), machine, ours=0.3, others=0.3).complaint() is None


@pytest.mark.parametrize(
    ("what", "cause"),
    [
        ("steal", "the hypervisor gave the cores to others"),
        ("memory", "memory was short"),
        ("swap", "pages came back from swap"),
        ("heat", "cores were slowed for their temperature"),
        ("a board's heat", "cores were slowed for their temperature"),
        ("a Raspberry Pi's heat", "cores were slowed for their temperature"),
        ("a Raspberry Pi's supply", "cores were slowed for their power supply"),
    ],
)
def test_what_else_disturbs_is_named(machine: Machine, what: str, cause: str) -> None:
    with machine.watch().watching() as seen:
        machine.stalled_us["memory"] += 2_000_000 if what == "memory" else 0
        machine.swapped_in += 5000 if what == "swap" else 0
        machine.throttled += 1 if what == "heat" else 0
        for name, text in BOARDS.get(what, {}).items():
            (machine.root / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
            (machine.root / "sys" / name).write_text(text)
        machine.run(ours=0.2, steal=0.1 if what == "steal" else 0.0)
    assert list(seen.reasons) == [cause]
    assert seen.provenance()["reasons"] == {cause: 10.0}


def test_fans_that_turn_and_what_was_long_ago_disturb_nobody(machine: Machine) -> None:
    for name, text in {
        "class/thermal/cooling_device0/type": "pwm-fan\n",
        "class/thermal/cooling_device0/cur_state": "3\n",
        FIRMWARE: "f0000\n",
        "devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "600000\n",
        "devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": "2400000\n",
    }.items():
        (machine.root / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (machine.root / "sys" / name).write_text(text)
    seen = seen_of(machine.watch(), machine, ours=0.5)
    assert (seen.complaint(), seen.provenance()["clock_share_min"]) == (None, 0.25)


def test_a_gpu_that_computes_for_others_disturbs(machine: Machine) -> None:
    watch = replace(machine.watch(), gpus=lambda _: GpuState(others_share=0.4))
    assert "a GPU computed for others" in (seen_of(watch, machine, ours=0.1).complaint() or "")


def gpu_watched(library: Path, work: str, servers: tuple[int, ...] = ()) -> str | None:
    """The complaint of a watch in a process of its own, on a machine whose GPU is used as `work` (`PID:PERCENT`)
    says; `self` is that process."""
    program = (
        "import os, sys; os.environ['FAKE_GPU_WORK'] = sys.argv[1].replace('self', str(os.getpid()))\n"
        "from pathlib import Path; from resources.machine_watch import MachineWatch, nvidia_gpus\n"
        "nowhere, servers = Path('/nonexistent'), tuple(map(int, sys.argv[2:]))\n"
        "watch = MachineWatch(servers=servers, proc=nowhere, sys=nowhere, gpus=nvidia_gpus, interval_s=0.01)\n"
        "with watch.watching() as seen: pass\n"
        "print(seen.complaint() or '')"
    )
    told = os.environ | {"LD_LIBRARY_PATH": str(library), "FAKE_GPUS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", program, work, *map(str, servers)],
        cwd=Path(__file__).parents[2],
        env=told,
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.strip() or None


def test_what_a_stranger_computes_on_a_gpu_spoils_what_is_measured_meanwhile(fake_nvml: Path) -> None:
    assert "a GPU computed for others" in (gpu_watched(fake_nvml, f"{STRANGER}:40") or "")


def test_a_server_that_somebody_else_started_here_is_no_stranger_on_its_gpu(fake_nvml: Path) -> None:
    assert gpu_watched(fake_nvml, f"{SERVER}:90", servers=(SERVER,)) is None


def test_what_we_compute_on_a_gpu_ourselves_disturbs_nobody(fake_nvml: Path) -> None:
    assert gpu_watched(fake_nvml, "self:90") is None


def test_a_server_that_cannot_be_told_from_others_is_not_accused(machine: Machine) -> None:
    seen = seen_of(replace(machine.watch(), told_apart=False), machine, ours=0.1, others=0.9)
    assert seen.complaint() is None
    assert seen.provenance()["whose_is_not_others"].startswith("not known")


def test_a_short_disturbance_in_a_long_measurement_is_borne(machine: Machine) -> None:
    seen = Seen(watched_s=100, disturbed_s=9, reasons={"memory was short": 9})
    assert seen.complaint() is None
    assert replace(seen, disturbed_s=11).complaint() is not None


def test_a_machine_that_tells_nothing_is_not_accused(tmp_path: Path) -> None:
    with MachineWatch(proc=tmp_path, sys=tmp_path, interval_s=0.01).watching() as seen:
        pass
    assert seen.complaint() is None
    assert seen.provenance()["runnable_max"] is None


def running(base_url: str = "http://127.0.0.1:9", *, launched_by_us: bool = True) -> RunningServer:
    return RunningServer(Endpoint(base_url, "m"), ServerFingerprint(name="scripted", launched_by_us=launched_by_us))


def test_a_server_on_another_machine_is_not_watched() -> None:
    assert watch_of(running("http://192.0.2.1:8080")) is None


def test_a_server_that_somebody_else_started_here_is_known_by_the_port_it_listens_at() -> None:
    with scripted_server(models=["m"]) as server:
        watch = watch_of(running(server.base_url, launched_by_us=False))
    assert watch is not None
    assert (watch.servers, watch.told_apart) == ((os.getpid(),), True)


def timed(figures: Iterator[float], machine: Machine, others: Iterator[float]) -> TierResult:
    spec = TIERS["inference"]

    def measure(_: Measuring) -> TierResult:
        machine.run(ours=0.3, others=next(others))
        value = next(figures)
        metrics = tuple(
            Metric.measured(m.name, m.unit, value, n=3) if m.name == "ttft_ms.median" else m
            for m in spec.skipped("not tried").metrics
        )
        return TierResult("inference", metrics)

    goldens = read_goldens(spec)
    handed = Measuring(running(), goldens.value, None)
    return measure_tier(replace(spec, measure=measure), goldens, handed, watch=machine.watch())


def test_what_was_measured_on_a_busy_machine_is_measured_again(machine: Machine) -> None:
    result = timed(iter([900.0, 100.0]), machine, iter([0.7, 0.01]))
    assert (result.metric("ttft_ms.median").value, result.metric("ttft_ms.median").valid) == (100.0, True)
    assert [one["disturbed_s"] for one in result.provenance["machine"]] == [10.0, 0.0]


def test_figures_of_a_machine_that_stays_busy_are_invalid_and_say_why(machine: Machine) -> None:
    result = timed(iter([900.0] * ATTEMPTS), machine, iter([0.7] * ATTEMPTS))
    metric = result.metric("ttft_ms.median")
    assert (metric.status, metric.valid) == (Status.OK, False)
    assert "other processes wanted the cores" in (metric.why or "")
    assert len(result.provenance["machine"]) == ATTEMPTS


def measured_for_real(attempts_s: float = 4.0) -> TierResult:
    spec = TIERS["inference"]
    plan = InferencePlan.smoke().model_copy(
        update={"budget_s": attempts_s, "calibrate": False, "max_rounds": 50, "target_relative_half_width": 0.0001}
    )
    with scripted_server(answer(*["a"] * 20, delay_s=0.01), models=["m"]) as server:
        served = running(server.base_url)
        watch = watch_of(served)
        assert watch is not None
        goldens = read_goldens(spec)
        handed = Measuring(served, goldens.value, plan)
        return measure_tier(spec, goldens, handed, watch=replace(watch, interval_s=0.5))


@pytest.mark.alone
@pytest.mark.slow
def test_burning_the_cores_during_a_measurement_makes_its_figures_invalid() -> None:
    with burners(2 * (os.cpu_count() or 2)):
        result = measured_for_real()
    metric = result.metric("ttft_ms.median")
    assert not metric.valid
    assert "other processes wanted the cores" in (metric.why or "")


@pytest.mark.alone
@pytest.mark.slow
def test_a_measurement_on_an_idle_machine_stays_valid() -> None:
    result = measured_for_real()
    machine = result.provenance["machine"]
    assert machine[-1]["disturbed_s"] <= 0.1 * machine[-1]["watched_s"]
    assert "busy with something else" not in (result.metric("ttft_ms.median").why or "")
