"""What is served is read again, a little at a time, and what changed in it is told once, by name."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from milton_assets.edge.serving.health_journal import EventKind, HealthEvent
from milton_assets.edge.serving.patrolling import Patrolling
from tests.support.edge_bundles import WEIGHTS_FILE
from tests.support.served_target import Place

ROUND_BYTES = 4096
ROUNDS_A_PASS = 12
"""More than a pass over the small release takes."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def change(place: Place, tmp_path: Path) -> None:
    """Change the weights in service under another name, from outside."""
    outside = tmp_path / "outside"
    outside.hardlink_to(place.path / "current" / WEIGHTS_FILE)
    raw = bytearray(outside.read_bytes())
    raw[-1] ^= 1
    outside.write_bytes(raw)
    outside.unlink()


def rounds(patrolling: Patrolling) -> list[str]:
    return [said for _ in range(ROUNDS_A_PASS) for said in patrolling.round()]


def patrolling_of(place: Place) -> Patrolling:
    return Patrolling(place.path, lambda event: None, round_bytes=ROUND_BYTES)


def test_a_release_that_is_as_it_was_deployed_is_not_told_of(place: Place) -> None:
    patrolling = patrolling_of(place)
    assert rounds(patrolling) == []
    place.deploy("v1")
    assert rounds(patrolling) == []


def test_bytes_changed_through_a_hard_link_from_outside_are_told_once(place: Place, tmp_path: Path) -> None:
    place.deploy("v1")
    patrolling = patrolling_of(place)
    assert rounds(patrolling) == []
    change(place, tmp_path)
    (said,) = rounds(patrolling)
    assert WEIGHTS_FILE in said
    assert rounds(patrolling) == []


def test_after_a_swap_the_new_release_is_read(place: Place, tmp_path: Path) -> None:
    place.deploy("v1")
    patrolling = patrolling_of(place)
    rounds(patrolling)
    place.deploy("v2")
    assert rounds(patrolling) == []
    change(place, tmp_path)
    assert WEIGHTS_FILE in "".join(rounds(patrolling))


def test_a_journal_that_does_not_hold_is_told_and_ends_nothing(place: Place) -> None:
    place.deploy("v1")
    journal = place.path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"v1", b"v9", 1))
    (said,) = rounds(patrolling_of(place))
    assert "cannot be read again" in said


def test_what_is_found_needs_a_person(place: Place, tmp_path: Path) -> None:
    release = place.deploy("v1")
    change(place, tmp_path)
    told: list[HealthEvent] = []

    async def a_while() -> None:
        patrolling = Patrolling(place.path, told.append, round_bytes=1 << 20, every_s=0.0)
        with suppress(TimeoutError):
            async with asyncio.timeout(20):
                running = asyncio.create_task(patrolling.run())
                while not told:
                    await asyncio.sleep(0.01)
                running.cancel()

    asyncio.run(a_while())
    (event,) = told
    assert (event.kind, event.release, event.needs_person) == (EventKind.ALARM, release, True)
    assert WEIGHTS_FILE in event.said
