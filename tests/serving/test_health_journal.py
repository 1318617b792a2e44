"""The journal of what happened while a device served: bounded, whole, and never in the way."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from milton_assets.edge.serving.health_journal import EventKind, HealthEvent, HealthJournal
from tests.support.file_limits import file_size_limit

NOW = datetime(2026, 1, 11, 14, 25, tzinfo=UTC)


def event(said: str) -> HealthEvent:
    return HealthEvent(at=NOW, kind=EventKind.CHECKED, said=said, figures={"decode_tokens_per_s": 12.5})


def test_what_is_written_is_read_in_order(tmp_path: Path) -> None:
    journal = HealthJournal(tmp_path / "health.jsonl")
    for number in range(3):
        assert journal.write(event(f"number {number}"))
    assert [found.said for found in journal.events()] == ["number 0", "number 1", "number 2"]


def test_it_keeps_the_latest_within_its_bound(tmp_path: Path) -> None:
    journal = HealthJournal(tmp_path / "health.jsonl", max_bytes=10_000)
    for number in range(500):
        journal.write(event(f"number {number}"))
    kept = [found.said for found in journal.events()]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10_000
    assert kept == [f"number {number}" for number in range(500 - len(kept), 500)]
    assert len(kept) > 20


def test_a_torn_line_costs_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "health.jsonl"
    HealthJournal(path).write(event("first"))
    HealthJournal(path).write(event("torn"))
    os.truncate(path, path.stat().st_size - 9)
    HealthJournal(path).write(event("after"))
    assert [found.said for found in HealthJournal(path).events()] == ["first", "after"]


def test_a_full_disk_loses_events_and_says_how_many(tmp_path: Path) -> None:
    journal = HealthJournal(tmp_path / "health.jsonl")
    journal.write(event("first"))
    with file_size_limit((tmp_path / "health.jsonl").stat().st_size + 10):
        assert not journal.write(event("lost"))
        assert not journal.write(event("lost too"))
    assert journal.write(event("after"))
    assert [found.said for found in journal.events()] == ["first", "2 events could not be written", "after"]


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "health.jsonl").symlink_to(elsewhere)
    assert not HealthJournal(tmp_path / "health.jsonl").write(event("first"))
    assert not elsewhere.exists()
