"""The fingerprint of this machine: what is there is read, what is not is said."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from milton_assets.vocabulary.fingerprint import ServerFingerprint
from resources.hardware import cpu_model, fingerprint, gpu_fingerprints


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
    assert fingerprint(server).server == server
    assert fingerprint().server is None


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
