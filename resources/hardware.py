"""The machine a figure was taken on, from psutil, /proc/cpuinfo and NVML. No Dagster.

What belongs here: probing this machine. What does not: the fingerprint's fields, which are
`milton_assets.vocabulary.fingerprint`'s, and what a server says of itself (`resources.servers.probe`).
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pynvml

from milton_assets.vocabulary.fingerprint import Fingerprint, GpuFingerprint, HostFingerprint
from milton_assets.vocabulary.local_address import is_here
from milton_assets.vocabulary.nvml import devices, opened
from milton_assets.vocabulary.server import RunningServer

CPUINFO = Path("/proc/cpuinfo")
_MODEL_KEYS = ("model name", "Model", "cpu model", "Processor")
"""x86, then what Arm boards and others write."""


def fingerprint(served: RunningServer | None = None) -> Fingerprint:
    """This machine's fingerprint, or that of a server and the machine it runs on.

    What cannot be read is None, never guessed: of a server elsewhere, the machine is unknown.
    """
    if served is not None and not is_here(served.endpoint.base_url):
        elsewhere = f"the server runs on {urlsplit(served.endpoint.base_url).netloc}, which is not this machine"
        return Fingerprint(
            host=None, host_absent_because=elsewhere, gpus_absent_because=elsewhere, server=served.fingerprint
        )
    gpus, absent_because = gpu_fingerprints()
    return Fingerprint(
        host=host_fingerprint(),
        gpus=gpus,
        gpus_absent_because=absent_because,
        server=served.fingerprint if served else None,
    )


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


def usable_cores() -> int:
    """The physical cores that this process may keep busy: those there are, its affinity, and its control group's quota.

    A service with `CPUQuota=400%` on a machine of 16 cores may use 4; a thread more than that slows all of them down.
    """
    affinity = len(os.sched_getaffinity(0))
    limits = [affinity, psutil.cpu_count(logical=False) or affinity]
    quota = cpu_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    if quota is not None:
        limits.append(max(1, int(quota)))
    return min(limits)


def cpu_quota(membership: Path, root: Path) -> float | None:
    """The least CPU quota, in CPUs, of the control group that `membership` names and those above it; None without.

    Both as cgroup version 2 has them (`0::/path`; `cpu.max` below `root`). Source: the kernel's `cgroup-v2.rst`.
    """
    try:
        named = [line[3:] for line in membership.read_text().splitlines() if line.startswith("0::/")]
    except OSError:
        return None
    quotas = []
    for path in named:
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            quotas += _quota(folder / "cpu.max")
            if folder == root:
                break
    return min(quotas, default=None)


def _quota(cpu_max: Path) -> list[float]:
    """The quota in such a file, if there is one: `max 100000` sets none, `200000 100000` sets two CPUs."""
    try:
        quota, period = cpu_max.read_text().split()
        return [int(quota) / int(period)]
    except (OSError, ValueError, ZeroDivisionError):
        return []


def sees_gpu() -> bool:
    """Whether NVML sees a GPU here."""
    return bool(gpu_fingerprints()[0])


def gpu_fingerprints() -> tuple[tuple[GpuFingerprint, ...], str | None]:
    """The NVIDIA GPUs, and why there are none when there are none."""
    try:
        with opened():
            driver = _text(pynvml.nvmlSystemGetDriverVersion())
            cuda = _cuda_version()
            gpus = tuple(_gpu(handle, driver, cuda) for handle in devices())
    except pynvml.NVMLError as error:
        return (), f"NVML: {error}"
    return gpus, None if gpus else "NVML: the driver sees no GPU"


def _gpu(handle: object, driver: str, cuda: str | None) -> GpuFingerprint:
    return GpuFingerprint(
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        memory_bytes=_memory_bytes(handle),
        driver=driver,
        power_limit_w=_power_limit_w(handle),
        cuda=cuda,
    )


def _cuda_version() -> str | None:
    """As NVML counts it, 12080 is 12.8; None where the driver does not tell."""
    try:
        thousands, rest = divmod(int(pynvml.nvmlSystemGetCudaDriverVersion_v2()), 1000)
    except pynvml.NVMLError:
        return None
    return f"{thousands}.{rest // 10}"


def _memory_bytes(handle: object) -> int | None:
    """None where the driver does not tell: a GPU that has its memory in common with the processor."""
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    except pynvml.NVMLError_NotSupported:
        return None


def _power_limit_w(handle: object) -> float | None:
    try:
        return float(pynvml.nvmlDeviceGetEnforcedPowerLimit(handle)) / 1000
    except pynvml.NVMLError_NotSupported:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
