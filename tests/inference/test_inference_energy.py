"""Energy for each token: from the kernel's and NVML's counters, read on the machine that serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from milton_assets.tiers.inference import InferencePlan, Prompt, measure_inference
from milton_assets.tiers.inference.client import measuring_here
from milton_assets.tiers.inference.energy import EnergyMeter, EnergyReading
from milton_assets.vocabulary.metric import Metric, Status
from milton_assets.vocabulary.powercap import PackageCounter, taken_j
from milton_assets.vocabulary.server import Endpoint
from tests.support.scripted_server import Reply, answer, scripted_server

ROOT = Path(__file__).parents[2]
LOCAL = "http://127.0.0.1:8000"


class Packages:
    """The kernel's counters of a machine with two processor packages, below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._uj = {"intel-rapl:0": 9_999_000_000, "intel-rapl:1": 0, "intel-rapl:0:0": 5}
        for name in self._uj:
            zone = root / "sys/class/powercap" / name
            zone.mkdir(parents=True)
            (zone / "max_energy_range_uj").write_text("10000000000\n")
        self.take(0)

    def take(self, joules: float) -> None:
        """Each package takes so much; the first begins at 0 again meanwhile. A part of one counts besides."""
        for name in self._uj:
            self._uj[name] = (self._uj[name] + int(joules * 1e6)) % 10_000_000_000
            (self.root / "sys/class/powercap" / name / "energy_uj").write_text(f"{self._uj[name]}\n")


def energy(packages: Packages, rounds: int = 3) -> Metric:
    """The tier's figure over a server whose machine takes 3 joules for each answer of three tokens."""

    def reply(_: dict[str, Any]) -> Reply:
        packages.take(1.5)
        return answer("one ", "two ", "three")

    with scripted_server(reply) as server, measuring_here(lambda url: EnergyMeter(url, root=packages.root)) as opener:
        result = measure_inference(Endpoint(server.base_url, "m"), plan_of(rounds), open_client=opener)
    return result.metric("energy_j_per_token")


def plan_of(rounds: int) -> InferencePlan:
    """So many rounds of three questions, after one to warm up."""
    prompts = tuple(Prompt(id=f"p{n}", kind="code", text=f"Question {n}?") for n in range(3))
    return InferencePlan(
        prompts=prompts, warm_up_requests=1, min_rounds=rounds, max_rounds=rounds, max_tokens=8, calibrate=False
    )


def test_energy_is_that_of_all_packages_for_each_token_with_its_interval(tmp_path: Path) -> None:
    metric = energy(Packages(tmp_path))
    assert metric.value == pytest.approx(1.0) and metric.unit == "J/token"
    assert metric.interval is not None and metric.interval.low == pytest.approx(1.0)


def test_two_rounds_are_too_few_to_say_how_sure(tmp_path: Path) -> None:
    metric = energy(Packages(tmp_path), rounds=2)
    assert (metric.status, metric.why) == (Status.SKIPPED, "an interval needs 3 rounds, and 2 were made")


def test_a_processor_whose_energy_is_not_counted_is_skipped_with_that_reason(tmp_path: Path) -> None:
    assert EnergyMeter(LOCAL, root=tmp_path).read().absent_because == "the kernel counts no energy of this processor"


def test_a_counter_that_may_not_be_read_is_skipped_with_the_systems_reason(tmp_path: Path) -> None:
    Packages(tmp_path)
    counter = tmp_path / "sys/class/powercap/intel-rapl:1/energy_uj"
    counter.unlink()
    counter.mkdir()  # root may read everything, but no folder
    assert EnergyMeter(LOCAL, root=tmp_path).read().absent_because == f"{counter}: Is a directory"


def test_of_a_server_elsewhere_nothing_is_known(tmp_path: Path) -> None:
    Packages(tmp_path)
    there = EnergyMeter("http://192.0.2.1:8000", root=tmp_path)
    assert there.since(there.read()).absent_because == "the server runs on another machine"


def test_a_package_that_came_is_no_difference_of_two_readings() -> None:
    one = {"intel-rapl:0": PackageCounter(1.0, 9.0)}
    with pytest.raises(ValueError, match="are not"):
        taken_j(one, one | {"intel-rapl:1": PackageCounter(1.0, 9.0)})


def with_gpus(library: Path, root: Path, gpus: str) -> dict[str, Any]:
    """A round's energy on a machine with so many GPUs, read in a process of its own."""
    program = (
        "import json, sys, dataclasses, pathlib; from milton_assets.tiers.inference.energy import EnergyMeter; "
        f"meter = EnergyMeter({LOCAL!r}, root=pathlib.Path(sys.argv[1])); "
        "print(json.dumps(dataclasses.asdict(meter.since(meter.read()))))"
    )
    told = os.environ | {"LD_LIBRARY_PATH": str(library), "FAKE_GPUS": gpus}
    ran = subprocess.run(
        [sys.executable, "-c", program, root], cwd=ROOT, env=told, capture_output=True, text=True, check=True
    )
    return dict(json.loads(ran.stdout))


def test_gpus_count_beside_the_packages(fake_nvml: Path, tmp_path: Path) -> None:
    Packages(tmp_path)
    found = with_gpus(fake_nvml, tmp_path, "2")
    # The stand-in counts on by 2.5 J with each question: two GPUs, two readings.
    assert found["joules"] == pytest.approx(10.0)
    assert found["of"] == ["intel-rapl:0", "intel-rapl:1", "gpu:0", "gpu:1"]


def test_where_the_kernel_counts_nothing_what_the_gpus_took_is_kept_apart(fake_nvml: Path, tmp_path: Path) -> None:
    found = with_gpus(fake_nvml, tmp_path, "2")
    assert (found["joules"], found["absent_because"]) == (None, "the kernel counts no energy of this processor")
    assert found["gpus_joules"] == pytest.approx(10.0)


class CountedByItsGPU(EnergyMeter):
    """Reads a virtual machine, whose kernel counts nothing, and whose GPU takes 3 joules for each answer."""

    gpu_j = 0.0

    def read(self) -> EnergyReading:
        return EnergyReading({}, {"gpu:0": CountedByItsGPU.gpu_j}, "the kernel counts no energy of this processor")


def test_of_a_virtual_machine_the_figure_is_skipped_and_says_what_its_gpus_alone_took() -> None:
    def reply(_: dict[str, Any]) -> Reply:
        CountedByItsGPU.gpu_j += 3.0
        return answer("one ", "two ", "three")

    with scripted_server(reply) as server, measuring_here(CountedByItsGPU) as opener:
        result = measure_inference(Endpoint(server.base_url, "m"), plan_of(3), open_client=opener)
    metric = result.metric("energy_j_per_token")
    assert metric.status is Status.SKIPPED
    assert metric.why == "the kernel counts no energy of this processor; its GPUs alone took 1.00 J a token"


def test_a_gpu_that_tells_nothing_leaves_no_figure_that_passes_for_the_whole(fake_nvml: Path, tmp_path: Path) -> None:
    Packages(tmp_path)
    assert with_gpus(fake_nvml, tmp_path, "3")["absent_because"] == "Not Supported"
