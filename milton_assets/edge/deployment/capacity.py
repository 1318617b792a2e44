"""Whether the device can take a release: disk, memory and model server.

What belongs here: these checks and their messages. What does not: making room (`gc`).
"""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from milton_assets.edge.manifest import Requirements
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.inventory import Runtime
from milton_assets.vocabulary.llama_build import llama_build

RESERVE_BYTES = 16 << 20
"""Left free on the target for its journal and folders."""
UPDATE_RUNTIME = (
    "`milton target add`, run again, brings a device this machine's model server; "
    "else measure the model on the device's class (docs/classes.md)"
)


class NotEnoughRoom(MiltonError):
    """The target's disk cannot hold the release beside what it holds."""


class NotEnoughMemory(MiltonError):
    """The device's memory cannot hold the model."""


class RuntimeTooOld(MiltonError):
    """The device's model server is older than any that was shown to serve the release."""


@dataclass(frozen=True)
class Memory:
    """The device's memory in bytes; `lendable_bytes` of what is in use would be lent for a load test (`borrowing`)."""

    total_bytes: int
    available_bytes: int
    lendable_bytes: int = 0


def device_memory() -> Memory:
    """This machine's memory now."""
    found = psutil.virtual_memory()
    return Memory(found.total, found.available)


def check_room(free_bytes: int, needed_bytes: int) -> None:
    """Raise `NotEnoughRoom` when the disk lacks room for the release and the reserve."""
    if free_bytes < needed_bytes + RESERVE_BYTES:
        raise NotEnoughRoom(
            f"the target has {_mib(free_bytes)} free, the release needs {_mib(needed_bytes + RESERVE_BYTES)}",
            expected="room for the release beside the ones that are there",
            remedy="`milton gc` frees releases that are not in service",
        )


def check_memory(memory: Memory, needed_bytes: int, *, will_load: bool) -> None:
    """Raise `NotEnoughMemory` when the model cannot fit at all or, with `will_load`, not now beside what runs.

    What the one that serves would lend counts as free.
    """
    has = memory.available_bytes + memory.lendable_bytes if will_load else memory.total_bytes
    if has < needed_bytes:
        lent = f" ({_mib(memory.lendable_bytes)} of it lent by what serves)" if memory.lendable_bytes else ""
        raise NotEnoughMemory(
            f"the device has {_mib(has)} of memory {f'available{lent}' if will_load else 'in all'}, "
            f"the release needs {_mib(needed_bytes)}",
            expected="memory for the model" + (" beside what runs, for the load test" if will_load else ""),
            remedy="stop something on the device, or deploy a smaller quantisation",
        )


def outdated(runtime: Runtime | None, needed: Requirements) -> str | None:
    """In which way `runtime` is too old for what is `needed`, with both builds; None where it is not.

    A server that does not tell a build that llama.cpp counted is not judged by it: the load test tries it.
    """
    found = None if runtime is None else llama_build(runtime.build)
    least = needed.least_llama_build
    if runtime is None or least is None or found is None or found >= least:
        return None
    return f"it needs llama.cpp of build {least} or later, and the device has build {found} ({runtime.build})"


def check_runtime(runtime: Runtime | None, needed: Requirements) -> None:
    """Raise `RuntimeTooOld` when the device's model server, None where nobody looked, is `outdated`."""
    if problem := outdated(runtime, needed):
        raise RuntimeTooOld(
            f"the release does not fit this device: {problem}",
            expected="a model server no older than the one that the model was measured with",
            remedy=UPDATE_RUNTIME,
        )


def in_gib(size_bytes: int) -> str:
    """A size for a person: in GiB, or in MiB where that says little."""
    return f"{size_bytes / (1 << 30):.2f} GiB" if size_bytes >= 1 << 27 else f"{size_bytes / (1 << 20):.1f} MiB"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.0f} MiB"
