"""What NVIDIA's GPUs of this machine show while they work: power, temperature, and whether they were slowed.

    gpu_signs().power_w

What belongs here: asking NVML, and saying why it cannot tell. What does not: which GPUs there are
(`resources.hardware`), whether others compute on them (`resources.machine_watch`), and judging any of it
(`edge.serving.watch`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pynvml

from milton_assets.vocabulary.nvml import devices, opened

_MILLI = 1e-3


@dataclass(frozen=True)
class GpuSigns:
    """All GPUs of a machine together at one moment. None is what could not be read; `absent` says why, by name.

    `power_w` is their sum, `temperature_c` the highest, `slowed_because` the first reason, empty when none was slowed.
    """

    power_w: float | None = None
    temperature_c: float | None = None
    slowed_because: str | None = None
    absent: Mapping[str, str] = field(default_factory=dict)


def gpu_signs() -> GpuSigns:
    """What they show now. Never raises: most devices have none."""
    try:
        with opened():
            handles = devices()
            return _of(handles) if handles else _absent("NVML: the driver sees no GPU")
    except pynvml.NVMLError as error:
        return _absent(f"NVML: {error}")


def slowed_because(handle: object) -> str | None:
    """Why that GPU's clocks are lowered, if for a fault. Raises `pynvml.NVMLError` where it does not tell."""
    reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    if reasons & (pynvml.nvmlClocksThrottleReasonHwThermalSlowdown | pynvml.nvmlClocksThrottleReasonSwThermalSlowdown):
        return "a GPU was slowed for its temperature"
    if reasons & pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown:
        return "a GPU was slowed for its power supply"
    return None


def _of(handles: list[object]) -> GpuSigns:
    absent: dict[str, str] = {}

    def told(name: str, read: Callable[[object], float | str]) -> list[float | str]:
        found = []
        for index, handle in enumerate(handles):
            try:
                found.append(read(handle))
            except pynvml.NVMLError as error:
                # A sum or a maximum over some of them would pass for all.
                absent[name] = f"NVML: GPU {index}: {error}"
        return [] if name in absent else found

    power = told("power_w", lambda handle: pynvml.nvmlDeviceGetPowerUsage(handle) * _MILLI)
    heat = told("temperature_c", lambda h: float(pynvml.nvmlDeviceGetTemperature(h, pynvml.NVML_TEMPERATURE_GPU)))
    slowed = told("slowed_because", lambda handle: slowed_because(handle) or "")
    return GpuSigns(
        power_w=sum(map(float, power)) if power else None,
        temperature_c=max(map(float, heat), default=None),
        slowed_because=next(filter(None, map(str, slowed)), "") if slowed else None,
        absent=absent,
    )


def _absent(why: str) -> GpuSigns:
    return GpuSigns(absent=dict.fromkeys(("power_w", "temperature_c", "slowed_because"), why))
