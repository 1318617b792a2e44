"""The energy that the client's machine took while a round was made.

    meter = EnergyMeter(endpoint.base_url)
    before = meter.read()
    …
    meter.since(before)                             # Energy(joules=41.2, of=("intel-rapl:0",))

What belongs here: reading the counters before and after, and saying why there is no figure. What does not: what the
energy is divided by (`summary`), and who else used the machine meanwhile (`resources.machine_watch`).

It is the whole machine's: what processors and GPUs take idle is in it, and what others made them take. Where one of
them tells nothing there is no figure, since a part would pass for the whole; of a virtual machine, whose kernel counts
no energy of its processor, what the GPUs alone took is told with the reason. Sources:
`milton_assets.vocabulary.powercap`, and NVML's count of millijoules, which GPUs have since Volta.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from milton_assets.vocabulary.local_address import is_here
from milton_assets.vocabulary.powercap import PackageCounter, package_counters, taken_j

_MILLI = 1e-3


@dataclass(frozen=True)
class Energy:
    """Joules, and of what; or None, and why. `gpus_joules` is what the GPUs alone took, where any tell."""

    joules: float | None = None
    of: tuple[str, ...] = ()
    absent_because: str | None = None
    gpus_joules: float | None = None

    def __post_init__(self) -> None:
        if (self.joules is None) == (self.absent_because is None):
            raise ValueError("energy is so many joules, or absent for a reason")


NOT_READ = Energy(absent_because="nobody read it")


@dataclass(frozen=True)
class EnergyReading:
    """The counters at one moment: packages, and joules of each GPU by its number."""

    packages: Mapping[str, PackageCounter]
    gpus_j: Mapping[str, float]
    absent_because: str | None = None


class EnergyMeter:
    """Reads the counters of the machine below `root` for a server at `base_url`, which has to run on it."""

    def __init__(self, base_url: str, *, root: Path = Path("/")) -> None:
        self._root = root
        self._elsewhere = None if is_here(base_url) else "the server runs on another machine"

    def read(self) -> EnergyReading:
        """The counters now. Never raises: a machine that does not tell is no reason to measure nothing."""
        if self._elsewhere is not None:
            return EnergyReading({}, {}, self._elsewhere)
        absent: str | None
        packages: Mapping[str, PackageCounter] = {}
        gpus: Mapping[str, float] = {}
        try:
            packages = package_counters(self._root)
            absent = None if packages else "the kernel counts no energy of this processor"
        except OSError as error:
            absent = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        except ValueError as error:
            absent = str(error)
        try:
            gpus = _gpus_j()
        except ValueError as error:
            absent = absent or str(error)
        return EnergyReading(packages, gpus, absent)

    def since(self, before: EnergyReading) -> Energy:
        """What was taken since that reading."""
        after = self.read()
        if before.gpus_j.keys() != after.gpus_j.keys():
            return Energy(absent_because="a GPU came or went")
        gpus = sum(after.gpus_j[gpu] - joules for gpu, joules in before.gpus_j.items()) if after.gpus_j else None
        because = before.absent_because or after.absent_because
        try:
            joules = None if because else taken_j(before.packages, after.packages) + (gpus or 0.0)
        except ValueError as error:
            joules, because = None, str(error)
        return Energy(joules, () if because else (*after.packages, *after.gpus_j), because, gpus)


def _gpus_j() -> dict[str, float]:
    """Joules of each GPU; none where there is no driver. Raises `ValueError` when a GPU does not tell."""
    import pynvml

    from milton_assets.vocabulary.nvml import devices, opened

    with ExitStack() as stack:
        try:
            stack.enter_context(opened())
        except pynvml.NVMLError:
            return {}
        try:
            return {
                f"gpu:{index}": pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) * _MILLI
                for index, handle in enumerate(devices())
            }
        except pynvml.NVMLError as error:
            raise ValueError(str(error)) from None
