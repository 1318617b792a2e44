"""What a device says it runs on: as its kernel tells, or why that is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from milton_assets.vocabulary.inventory import PowerSource
from resources.inventory import power_source_of


def supplies(folder: Path, **kinds: str) -> Path:
    """A folder like `/sys/class/power_supply`; each kind is its type and, where it says so, whether it is online."""
    for name, told in kinds.items():
        kind, _, online = told.partition(" ")
        (folder / name).mkdir(parents=True)
        (folder / name / "type").write_text(f"{kind}\n")
        if online:
            (folder / name / "online").write_text(f"{online}\n")
    return folder


@pytest.mark.parametrize(
    ("kinds", "source"),
    [
        ({"AC": "Mains 1", "BAT0": "Battery"}, PowerSource.MAINS),
        ({"AC": "Mains 0", "BAT0": "Battery"}, PowerSource.BATTERY),
        ({"usb": "USB 1"}, PowerSource.MAINS),
    ],
    ids=["plugged in", "unplugged", "by USB"],
)
def test_a_device_runs_on_what_is_online_else_on_its_battery(tmp_path, kinds, source) -> None:
    assert power_source_of(supplies(tmp_path, **kinds)) == (source, None)


def test_a_board_that_tells_of_no_supply_says_so(tmp_path) -> None:
    assert power_source_of(tmp_path / "none") == (None, "the kernel tells of no power supply that is in use")
    assert power_source_of(supplies(tmp_path, AC="Mains 0"))[0] is None
