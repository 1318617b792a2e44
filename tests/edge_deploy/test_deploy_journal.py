"""The journal survives a torn end and betrays every other change."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.journal import Journal, JournalDamaged, Line, parse, read_journal
from milton_assets.edge.deployment.states import Failed, Operation, Record, Started, TargetCreated
from milton_assets.edge.release.disk import Fd, opened

AT = datetime(2026, 1, 11, 14, 25, tzinfo=UTC)
OPS = FileOps()


def records() -> list[Record]:
    made: list[Record] = [TargetCreated(at=AT, name="edge")]
    for number in range(3):
        name = f"deploy_20260111_142500_000_{number:06x}"
        made.append(Started(at=AT, deployment=name, operation=Operation.DEPLOY, actor="ada", bundle="/b"))
        made.append(Failed(at=AT, deployment=name, reason=f"reason {number}: größer"))
    return made


def written() -> bytes:
    lines: list[Line] = []
    for record in records():
        lines.append(Line.following(lines[-1] if lines else None, record))
    return b"".join(line.to_bytes() for line in lines)


WHOLE = written()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Fd]:
    with opened(OPS, OPS.open_folder(tmp_path)) as handle:
        yield handle


def test_what_was_appended_is_read_back(folder: Fd) -> None:
    journal = Journal(OPS, folder)
    for record in records():
        journal.append(record)
    assert list(read_journal(OPS, folder).records) == records()


def test_an_absent_journal_reads_as_empty(folder: Fd) -> None:
    assert read_journal(OPS, folder).lines == ()


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_a_torn_last_line_is_dropped(cut: int) -> None:
    reading = parse(WHOLE[:-cut])
    assert list(reading.records) == records()[:-1]
    assert reading.torn_bytes > 0


@given(st.integers(0, len(WHOLE)))
def test_any_prefix_reads_as_the_whole_lines_in_it(length: int) -> None:
    reading = parse(WHOLE[:length])
    assert len(reading.lines) == WHOLE[:length].count(b"\n")
    assert reading.whole_bytes + reading.torn_bytes == length


def test_blocks_that_never_reached_the_disk_read_as_a_torn_end() -> None:
    last = WHOLE.rstrip(b"\n").rfind(b"\n") + 1
    holed = WHOLE[: last + 30] + b"\0" * (len(WHOLE) - last - 31) + b"\n"
    assert list(parse(holed).records) == records()[:-1]
    assert list(parse(WHOLE + b"\0" * 4096).records) == records()


def test_the_next_append_cuts_off_a_torn_end(folder: Fd, tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_bytes(WHOLE[:-9])
    journal = Journal(OPS, folder)
    assert journal.torn_bytes > 0
    journal.append(records()[-1])
    assert (tmp_path / "journal.jsonl").read_bytes() == WHOLE


@given(st.data())
def test_any_flipped_bit_in_a_whole_line_is_tampering(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(WHOLE) - 2))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(WHOLE)
    changed[place] ^= 1 << bit
    if changed[place] in {0, ord("\n")} or WHOLE[place] == ord("\n"):
        return
    with pytest.raises(JournalDamaged):
        parse(bytes(changed))


def lines() -> list[bytes]:
    return WHOLE.splitlines(keepends=True)


@pytest.mark.parametrize("missing", range(6))
def test_a_missing_line_is_tampering(missing: int) -> None:
    kept = lines()
    del kept[missing]
    with pytest.raises(JournalDamaged, match=f"line {missing + 1} "):
        parse(b"".join(kept))


def test_exchanged_lines_are_tampering() -> None:
    kept = lines()
    kept[2], kept[4] = kept[4], kept[2]
    with pytest.raises(JournalDamaged, match=r"line 3 .* does not follow"):
        parse(b"".join(kept))


def test_a_line_written_anew_with_a_digest_of_its_own_is_tampering() -> None:
    forged = Line.following(None, TargetCreated(at=AT, name="another")).to_bytes()
    with pytest.raises(JournalDamaged, match=r"line 2 .* does not follow"):
        parse(forged + b"".join(lines()[1:]))


def test_a_chain_that_holds_but_breaks_the_rules_is_tampering() -> None:
    first = Line.following(None, records()[0])
    twice = Line.following(first, records()[0])
    with pytest.raises(JournalDamaged, match="exists already"):
        parse(first.to_bytes() + twice.to_bytes())


@pytest.mark.parametrize("raw", [b"null\n", b"[]\n", b"{}\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"\n"])
def test_what_is_no_journal_line_is_tampering(raw: bytes) -> None:
    with pytest.raises(JournalDamaged, match="line 1 "):
        parse(raw + WHOLE)


def test_a_line_that_was_reformatted_is_tampering() -> None:
    pretty = json.dumps(json.loads(lines()[0])).encode() + b"\n"
    with pytest.raises(JournalDamaged, match="not what its digest says"):
        parse(pretty + b"".join(lines()[1:]))


def test_a_journal_that_is_a_link_is_not_followed(folder: Fd, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(WHOLE)
    (tmp_path / "journal.jsonl").symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Journal(OPS, folder).append(records()[0])


class FailingFsync(FileOps):
    """A disk whose first fsync fails after the bytes were written."""

    def __init__(self) -> None:
        self.failed = False

    def fsync(self, handle: Fd) -> None:
        if not self.failed:
            self.failed = True
            raise OSError(5, os.strerror(5))
        super().fsync(handle)


def test_an_append_that_failed_leaves_no_trace_in_the_next_one(folder: Fd) -> None:
    journal = Journal(FailingFsync(), folder)
    with pytest.raises(OSError, match="Input/output"):
        journal.append(records()[0])
    assert journal.state.name is None
    journal.append(TargetCreated(at=AT, name="other"))
    (record,) = read_journal(OPS, folder).records
    assert isinstance(record, TargetCreated)
    assert record.name == "other"
