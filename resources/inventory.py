"""What this machine is, for a target's inventory.

What belongs here: reading the facts. What does not: which facts there are (`milton_assets.vocabulary.inventory`).
"""

from __future__ import annotations

import platform
import shutil
import socket
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from milton_assets.edge.deployment.borrowing import memory_at
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.inventory import Disk, Inventory, Memory, PowerSource, Processor, Runtime
from milton_assets.vocabulary.llama_build import LLAMA_CPP
from resources.hardware import CPUINFO, cpu_model, gpu_fingerprints, usable_cores

if TYPE_CHECKING:
    from resources.edge_server import LlamaServer

_VERSION_S = 20.0
_FEATURE_KEYS = ("flags", "Features")
"""x86, then Arm."""
POWER_SUPPLIES = Path("/sys/class/power_supply")


def inventory_of(folder: Path, llama_server: Callable[[], LlamaServer | None] = lambda: None) -> Inventory:
    """This machine's facts; `folder`, which need not be there yet, says which disk is meant.

    `llama_server` gives what GGUF files are served with, None for the wheel's; it may raise `MiltonError`.
    """
    memory = memory_at(folder)
    gpus, gpus_absent_because = gpu_fingerprints()
    runtime, runtime_absent_because = _runtime(llama_server)
    power_source, power_source_absent_because = power_source_of(POWER_SUPPLIES)
    return Inventory(
        host=socket.gethostname(),
        operating_system=operating_system(),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        processor=Processor(
            architecture=platform.machine(),
            model=cpu_model(CPUINFO),
            physical_cores=psutil.cpu_count(logical=False),
            usable_cores=usable_cores(),
            features=cpu_features(CPUINFO),
        ),
        memory=Memory(
            total_bytes=memory.total_bytes,
            available_bytes=memory.available_bytes,
            lendable_bytes=memory.lendable_bytes,
        ),
        disk=disk_of(folder),
        gpus=gpus,
        gpus_absent_because=gpus_absent_because,
        runtime=runtime,
        runtime_absent_because=runtime_absent_because,
        power_source=power_source,
        power_source_absent_because=power_source_absent_because,
        clock=datetime.now(UTC),
    )


def operating_system() -> str:
    """The distribution's own name, else the kernel's."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def cpu_features(cpuinfo: Path) -> tuple[str, ...]:
    """The first processor's instruction set extensions in a file like `/proc/cpuinfo`, sorted; empty without."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in _FEATURE_KEYS:
            return tuple(sorted(set(value.split())))
    return ()


def disk_of(folder: Path) -> Disk:
    """The file system on which `folder`, or the nearest folder above it that is there, lies."""
    nearest = next(path for path in (folder, *folder.parents) if path.is_dir()).resolve()
    mounted_at = next(path for path in (nearest, *nearest.parents) if path.is_mount())
    kinds = {partition.mountpoint: partition.fstype for partition in psutil.disk_partitions(all=True)}
    usage = shutil.disk_usage(nearest)
    return Disk(
        mounted_at=str(mounted_at),
        kind=kinds.get(str(mounted_at)) or None,
        total_bytes=usage.total,
        free_bytes=usage.free,
    )


def power_source_of(supplies: Path) -> tuple[PowerSource | None, str | None]:
    """What a folder like `/sys/class/power_supply` says the device runs on, or why that is not known.

    A supply that is online is the source; else a battery that is there. A board without any (most are) does not tell.
    """
    found = {}
    for supply in sorted(supplies.iterdir()) if supplies.is_dir() else ():
        try:
            kind = (supply / "type").read_text().strip()
            is_online = (supply / "online").read_text().strip() != "0" if (supply / "online").exists() else None
        except OSError:
            continue
        found[supply.name] = (kind, is_online)
    if any(kind in {"Mains", "USB"} and is_online for kind, is_online in found.values()):
        return PowerSource.MAINS, None
    if any(kind == "Battery" for kind, _ in found.values()):
        return PowerSource.BATTERY, None
    return None, "the kernel tells of no power supply that is in use"


def _runtime(llama_server: Callable[[], LlamaServer | None]) -> tuple[Runtime | None, str | None]:
    try:
        if (server := llama_server()) is not None:
            build = _version_of(server.program)
            return Runtime(name=LLAMA_CPP, build=build, gpu_layers=server.gpu_layers), None
    except (MiltonError, OSError, subprocess.SubprocessError) as error:
        return None, str(error)[:500]
    try:
        return Runtime(name="llama.cpp (embedded)", build=f"xllamacpp {version('xllamacpp')}"), None
    except PackageNotFoundError:
        return None, "xllamacpp is not installed"


def _version_of(program: str) -> str:
    """What the program says of its version, in its first line that does; it starts no server for that."""
    done = subprocess.run([program, "--version"], capture_output=True, timeout=_VERSION_S, check=False)
    lines = (done.stdout + done.stderr).decode(errors="replace").splitlines()
    told = next((line.strip() for line in lines if line.startswith("version")), "")
    return told[:200] or f"{program} does not tell it"
