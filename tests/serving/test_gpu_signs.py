"""What GPUs show while they work reaches the watch: as NVML tells it, from a stand-in for NVIDIA's library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from milton_assets.edge.serving.signs import Signs
from tests.serving.test_watch import QUICK, alarms
from tests.support.served_target import Place, Scripts, served, wait_for

ROOT = Path(__file__).parents[2]


def figures(library: Path, gpus: str, **environment: str) -> dict[str, Any]:
    """The signs' figures of a machine with so many GPUs, read in a process of its own."""
    program = (
        "import json, pathlib; from milton_assets.edge.serving.signs import SignsReader; "
        "print(json.dumps(SignsReader(pathlib.Path('/')).read().figures()))"
    )
    told = os.environ | {"LD_LIBRARY_PATH": str(library), "FAKE_GPUS": gpus, **environment}
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=told, capture_output=True, text=True, check=True
    )
    return dict(json.loads(ran.stdout))


def test_power_is_the_sum_and_temperature_the_highest_of_all_gpus(fake_nvml: Path) -> None:
    seen = figures(fake_nvml, "2")
    assert (seen["gpu_power_w"], seen["gpu_temperature_c"], seen["gpu_slowed_because"]) == (241.0, 60.0, "")


def test_a_gpu_that_is_slowed_for_its_temperature_says_so(fake_nvml: Path) -> None:
    assert figures(fake_nvml, "2", FAKE_HOT="1")["gpu_slowed_because"] == "a GPU was slowed for its temperature"


def test_what_one_gpu_does_not_tell_is_absent_with_its_reason_and_no_sum_of_the_others(fake_nvml: Path) -> None:
    seen = figures(fake_nvml, "3")
    assert "gpu_power_w" not in seen
    assert seen["gpu_power_w_absent"] == "NVML: GPU 2: Not Supported"
    assert seen["gpu_temperature_c"] == 70.0


def test_a_machine_without_gpus_says_why_nothing_is_told(fake_nvml: Path) -> None:
    assert figures(fake_nvml, "0")["gpu_temperature_c_absent"] == "NVML: the driver sees no GPU"
    assert figures(fake_nvml, "broken")["gpu_slowed_because_absent"].startswith("NVML: ")


def test_a_gpu_that_begins_to_be_slowed_is_told_once(tmp_path: Path) -> None:
    place, slowed = Place(tmp_path), [""]
    place.deploy("v1")

    def signs() -> Signs:
        return Signs(gpu_slowed_because=slowed[0], gpu_temperature_c=91.0)

    with served(place, Scripts(), schedule=QUICK, signs=signs) as gateway:
        wait_for(lambda: gateway.watch.signs.gpu_temperature_c is not None)
        slowed[0] = "a GPU was slowed for its temperature"
        wait_for(lambda: bool(alarms(gateway)), within_s=5)
        looked = gateway.watch.signs
        wait_for(lambda: gateway.watch.signs is not looked, within_s=5)
        (alarm,) = alarms(gateway)
        assert (alarm.said, alarm.needs_person) == ("a GPU was slowed for its temperature at 91 °C", False)
