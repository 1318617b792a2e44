"""The machine a figure was taken on, from psutil, /proc/cpuinfo and NVML. No Dagster.

What belongs here: probing this machine. What does not: the fingerprint's fields, which are
`milton_assets.vocabulary.fingerprint`'s, and what a server says of itself (`resources.servers.probe`).
"""

from __future__ import annotations

import platform
from pathlib import Path

import psutil
import pynvml

from milton_assets.vocabulary.fingerprint import Fingerprint, GpuFingerprint, HostFingerprint, ServerFingerprint

CPUINFO = Path("/proc/cpuinfo")
_MODEL_KEYS = ("model name", "Model", "cpu model", "Processor")
"""x86, then what Arm boards and others write."""


def fingerprint(server: ServerFingerprint | None = None) -> Fingerprint:
    """This machine's fingerprint, with the server's when there is one. What cannot be read is None, never guessed."""
    gpus, absent_because = gpu_fingerprints()
    return Fingerprint(host=host_fingerprint(), gpus=gpus, gpus_absent_because=absent_because, server=server)


def host_fingerprint() -> HostFingerprint:
    """CPU, memory and kernel of this machine."""
    return HostFingerprint(
        cpu_model=cpu_model(CPUINFO),
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=psutil.cpu_count(logical=True),
        ram_bytes=psutil.virtual_memory().total,
        kernel=f"{platform.system()} {platform.release()}",
    )


def cpu_model(cpuinfo: Path) -> str | None:
    """The first CPU's name in a file like `/proc/cpuinfo`; None where it has none or cannot be read."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return None
    values: dict[str, str] = {}
    for line in lines:
        key, separator, value = line.partition(":")
        if separator and value.strip():
            values.setdefault(key.strip(), value.strip())
    return next((values[key] for key in _MODEL_KEYS if key in values), None)


def gpu_fingerprints() -> tuple[tuple[GpuFingerprint, ...], str | None]:
    """The NVIDIA GPUs, and why there are none when there are none."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return (), f"NVML: {error}"
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        gpus = tuple(_gpu(handle, driver) for handle in handles)
    except pynvml.NVMLError as error:
        return (), f"NVML: {error}"
    finally:
        pynvml.nvmlShutdown()
    return gpus, None if gpus else "NVML: the driver sees no GPU"


def _gpu(handle: object, driver: str) -> GpuFingerprint:
    return GpuFingerprint(
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        memory_bytes=pynvml.nvmlDeviceGetMemoryInfo(handle).total,
        driver=driver,
        power_limit_w=_power_limit_w(handle),
    )


def _power_limit_w(handle: object) -> float | None:
    try:
        return float(pynvml.nvmlDeviceGetEnforcedPowerLimit(handle)) / 1000
    except pynvml.NVMLError_NotSupported:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
