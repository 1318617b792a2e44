"""The fingerprint of this machine: what is there is read, what is not is said."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.local_address import is_here
from milton_assets.vocabulary.server import Endpoint, RunningServer
from resources.hardware import cpu_model, cpu_quota, fingerprint, gpu_fingerprints, usable_cores
from tests.support.stub_llama_server import program as stub_program


def test_this_machine_has_cores_memory_and_a_kernel() -> None:
    host = fingerprint().host
    assert host.logical_cores == psutil.cpu_count()
    assert host.ram_bytes == psutil.virtual_memory().total
    assert host.kernel is not None
    assert host.kernel.startswith("Linux ")


def test_gpus_are_named_or_their_absence_is() -> None:
    gpus, absent_because = gpu_fingerprints()
    assert bool(gpus) != bool(absent_because)


def test_the_server_is_part_of_it() -> None:
    server = ServerFingerprint(name="toy")
    assert fingerprint(RunningServer(Endpoint("http://127.0.0.1:8000", "m"), server)).server == server
    assert fingerprint().server is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.9.9.9"])
def test_a_server_on_this_machine_has_this_machine(host: str) -> None:
    here = fingerprint(RunningServer(Endpoint(f"http://{host}:8000", "m"), ServerFingerprint(name="toy")))
    assert here.host == fingerprint().host
    assert here.host_absent_because is None


def test_every_address_of_this_machine_is_here() -> None:
    cards = psutil.net_if_addrs().values()
    for address in (a.address for card in cards for a in card if a.family is socket.AF_INET):
        assert is_here(f"http://{address}:8000")


@pytest.mark.parametrize("host", ["192.0.2.7", "no-such-host.invalid"])
def test_of_a_server_elsewhere_the_machine_is_unknown_and_not_guessed(host: str) -> None:
    elsewhere = fingerprint(RunningServer(Endpoint(f"http://{host}:8000", "m"), ServerFingerprint(name="toy")))
    assert (elsewhere.host, elsewhere.gpus) == (None, ())
    assert elsewhere.host_absent_because == elsewhere.gpus_absent_because
    assert f"{host}:8000" in (elsewhere.host_absent_because or "")
    assert elsewhere.comparable_with(fingerprint())


def test_two_probes_of_one_machine_agree() -> None:
    assert fingerprint().digest() == fingerprint().digest()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nmodel name\t: Intel(R) Xeon(R)\n\nprocessor\t: 1\nmodel name\t: other\n", "Intel(R) Xeon(R)"),
        ("processor\t: 0\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 5\n", "Raspberry Pi 5"),
        ("model name\t:\n", None),
        ("", None),
    ],
    ids=["x86", "Arm", "empty value", "empty file"],
)
def test_the_cpus_name_is_read_or_none(text: str, expected: str | None, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_model(tmp_path / "cpuinfo") == expected


def test_no_cpuinfo_is_none(tmp_path: Path) -> None:
    assert cpu_model(tmp_path / "nothing") is None


def on_a_machine(program: str, nvml: Path, gpus: str, **environment: str) -> str:
    """What the program prints on a machine with so many GPUs."""
    told = os.environ | {"LD_LIBRARY_PATH": str(nvml), "FAKE_GPUS": gpus} | environment
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=root, env=told, capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


def gpus_of_a_machine(folder: Path, count: str) -> dict[str, Any]:
    program = "from resources.hardware import fingerprint; print(fingerprint().model_dump_json())"
    return dict(json.loads(on_a_machine(program, folder, count)))


def test_gpus_have_name_memory_driver_cuda_version_and_power_limit(fake_nvml: Path) -> None:
    found = gpus_of_a_machine(fake_nvml, "2")
    gpu = {"name": "Fake H200", "memory_bytes": 1 << 37, "driver": "570.1", "cuda": "12.8"}
    assert found["gpus"] == [gpu | {"power_limit_w": 700.0}, gpu | {"power_limit_w": None}]
    assert found["gpus_absent_because"] is None


def test_a_driver_without_a_gpu_is_said(fake_nvml: Path) -> None:
    assert gpus_of_a_machine(fake_nvml, "0")["gpus_absent_because"] == "NVML: the driver sees no GPU"


def test_a_driver_that_fails_is_said(fake_nvml: Path) -> None:
    found = gpus_of_a_machine(fake_nvml, "broken")
    assert (found["gpus"], found["gpus_absent_because"]) == ([], "NVML: Unknown Error")


@pytest.mark.parametrize(
    ("gpus", "wish", "taken"), [("2", "None", True), ("0", "None", False), ("2", "False", False), ("0", "True", True)]
)
def test_a_llama_server_on_path_serves_where_there_is_a_gpu_unless_told_otherwise(
    fake_nvml: Path, tmp_path: Path, gpus: str, wish: str, taken: bool
) -> None:
    program = (
        "from milton_assets.settings import LaunchSettings; from resources.servers.launching import edge_server; "
        f"found = edge_server(LaunchSettings(prefer_binary={wish}), 'llama.cpp').llama_server(); "
        "print(found and found.program)"
    )
    path = stub_program(tmp_path)
    said = on_a_machine(program, fake_nvml, gpus, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert said == (str(path) if taken else "None")


# ------------------------------------------------------------------------------------------------------- cores


def cgroup(tmp_path: Path, path: str, **quotas: str) -> float | None:
    """The quota of a process in the group `path`, where `cpu.max` of the groups named (`_` for `/`) is as given."""
    (tmp_path / "membership").write_text(f"1:name=systemd:/old\n0::{path}\n")
    root = tmp_path / "root"
    root.mkdir()
    for group, text in quotas.items():
        folder = root / group.replace("_", "/").strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(text)
    return cpu_quota(tmp_path / "membership", root)


def test_a_quota_is_counted_in_cpus(tmp_path: Path) -> None:
    assert cgroup(tmp_path, "/", _="250000 100000\n") == 2.5


def test_the_least_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    quotas = {"user": "400000 100000\n", "user_milton": "800000 100000\n", "other": "100000 100000\n"}
    assert cgroup(tmp_path, "/user/milton", **quotas) == 4.0


@pytest.mark.parametrize("text", ["max 100000\n", "", "garbage\n", "1 0\n"])
def test_no_quota_is_none(text: str, tmp_path: Path) -> None:
    assert cgroup(tmp_path, "/user", user=text) is None


def test_a_process_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "nothing", tmp_path) is None


def test_usable_cores_are_some_and_no_more_than_our_affinity() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


def test_an_affinity_to_one_core_leaves_one(tmp_path: Path) -> None:
    program = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    program += "from resources.hardware import usable_cores; print(usable_cores())"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "1"
