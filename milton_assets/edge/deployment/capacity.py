"""Whether the device can take a release: disk and memory.

What belongs here: the two checks and their messages. What does not: making room (`gc`).
"""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from milton_assets.vocabulary.errors import MiltonError

RESERVE_BYTES = 16 << 20
"""Left free on the target for its journal and folders."""


class NotEnoughRoom(MiltonError):
    """The target's disk cannot hold the release beside what it holds."""


class NotEnoughMemory(MiltonError):
    """The device's memory cannot hold the model."""


@dataclass(frozen=True)
class Memory:
    """The device's memory in bytes."""

    total_bytes: int
    available_bytes: int


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
    """Raise `NotEnoughMemory` when the model cannot fit at all or, with `will_load`, not now beside what runs."""
    has = memory.available_bytes if will_load else memory.total_bytes
    if has < needed_bytes:
        raise NotEnoughMemory(
            f"the device has {_mib(has)} of memory {'available' if will_load else 'in all'}, "
            f"the release needs {_mib(needed_bytes)}",
            expected="memory for the model" + (" beside what runs, for the load test" if will_load else ""),
            remedy="stop something on the device, or deploy a smaller quantisation",
        )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.0f} MiB"
