"""The energy that a machine's processors took, as the kernel counts it (Intel's and AMD's RAPL, by `powercap`).

    before = package_counters()
    taken_j(before, package_counters())

What belongs here: reading the counters of whole packages, and the difference of two readings. What does not: power
sensors of boards (`edge.serving.signs`), GPUs, and what anybody makes of the energy.

Only root may read them (CVE-2020-8694) unless an administrator lets others. Source: the kernel's `powercap.rst`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_MICRO = 1e-6


@dataclass(frozen=True)
class PackageCounter:
    """Joules since some moment; after `wraps_at_j` it begins at 0 again."""

    joules: float
    wraps_at_j: float


def package_counters(root: Path = Path("/")) -> Mapping[str, PackageCounter]:
    """The counter of each processor package, by its zone's name; empty where the kernel has none.

    Parts of a package (cores, memory) are in its count and are left out. Raises `OSError` where they may not be read,
    `ValueError` where they hold no number.
    """
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl:[0-9]*"))
    return {
        zone.name: PackageCounter(_joules(zone / "energy_uj"), _joules(zone / "max_energy_range_uj"))
        for zone in zones
        if zone.name.count(":") == 1
    }


def taken_j(before: Mapping[str, PackageCounter], after: Mapping[str, PackageCounter]) -> float:
    """Joules of all packages between two readings, less than one round of a counter apart.

    Raises `ValueError` when the packages are not the same.
    """
    if before.keys() != after.keys():
        raise ValueError(f"the packages {sorted(after)} are not {sorted(before)}")
    differences = ((now.joules - before[name].joules, now.wraps_at_j) for name, now in after.items())
    return sum(difference if difference >= 0 else difference + wraps_at_j for difference, wraps_at_j in differences)


def _joules(path: Path) -> float:
    return float(path.read_text()) * _MICRO
