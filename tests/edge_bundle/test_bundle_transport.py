"""A bundle as one file: deterministic out, and in only what the signed manifest names."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.edge.bundle import Bundle, default_signer
from milton_assets.edge.bundle.archive import pack_bundle, unpack_bundle
from milton_assets.edge.bundle.keys import init_keys, load_public_key
from milton_assets.edge.bundle.tar import MAX_PAX_BYTES, header_of, read_member
from milton_assets.edge.disk_errors import DiskFailed
from milton_assets.edge.release import ReleaseDamaged, SignatureInvalid, verify_release
from milton_assets.edge.release.sshsig import fingerprint
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.progress import Progress
from tests.support.bundles import ingredients
from tests.support.file_limits import file_size_limit


@pytest.fixture
def signer(tmp_path: Path) -> str:
    return fingerprint(load_public_key(init_keys(tmp_path / "keys").public))


@pytest.fixture
def bundle(tmp_path: Path, signer: str) -> Bundle:
    return ingredients(tmp_path).bundle(tmp_path / "bundles", sign=default_signer(tmp_path / "keys"))


@pytest.fixture
def archive(bundle: Bundle, tmp_path: Path) -> Path:
    return pack_bundle(bundle.path, tmp_path / "b.tar")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_bundle_comes_back_as_it_was(bundle: Bundle, archive: Path, signer: str, tmp_path: Path) -> None:
    steps: list[Progress] = []
    back = unpack_bundle(archive, tmp_path / "in", trusted={signer}, on_progress=steps.append)
    assert back == tmp_path / "in" / bundle.path.name
    assert verify_release(back, trusted={signer}).ok
    for path in bundle.path.rglob("*"):
        if path.is_file():
            assert (back / path.relative_to(bundle.path)).read_bytes() == path.read_bytes()
    assert steps[-1].done == steps[-1].total
    assert names_in(tmp_path / "in") == [bundle.path.name]


def test_equal_bundles_make_equal_archives(bundle: Bundle, archive: Path, tmp_path: Path) -> None:
    for path in bundle.path.rglob("*"):
        os.utime(path, (1, 1))
    (bundle.path / "decision.json").chmod(0o600)
    assert pack_bundle(bundle.path, tmp_path / "again.tar").read_bytes() == archive.read_bytes()


def test_plain_tar_unpacks_it_too(bundle: Bundle, archive: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path / "keys"], check=True)
    assert verify_release(tmp_path / "keys" / bundle.path.name).ok


def test_long_and_foreign_names_survive(tmp_path: Path) -> None:
    for path in ("x" * 180 + ".bin", "/".join(["d" * 60] * 5), "größe 1.bin", "a" * 99):
        raw = header_of(path, 9 << 30, 1)
        member = read_member(io.BytesIO(raw).read)
        assert member is not None
        assert (member.path, member.size_bytes) == (path, 9 << 30)


def test_packing_never_overwrites(bundle: Bundle, archive: Path) -> None:
    before = archive.read_bytes()
    with pytest.raises(BadInput, match="exists already"):
        pack_bundle(bundle.path, archive)
    assert archive.read_bytes() == before


def test_packing_a_damaged_bundle_leaves_no_archive(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.path / "decision.json").write_bytes(bytes((bundle.path / "decision.json").stat().st_size))
    with pytest.raises(ReleaseDamaged, match=r"decision\.json"):
        pack_bundle(bundle.path, tmp_path / "bad.tar")
    assert not [name for name in names_in(tmp_path) if "bad.tar" in name]


def test_packing_where_nothing_can_be_written_says_so(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be written"):
        pack_bundle(bundle.path, tmp_path / "none" / "b.tar")


def test_unpacking_never_overwrites(archive: Path, tmp_path: Path) -> None:
    unpack_bundle(archive, tmp_path / "in")
    with pytest.raises(BadInput, match="exists already"):
        unpack_bundle(archive, tmp_path / "in")


def test_an_archive_without_a_trusted_signature_is_refused_before_the_weights(
    bundle: Bundle, archive: Path, tmp_path: Path
) -> None:
    with pytest.raises(SignatureInvalid, match="not trusted"):
        unpack_bundle(archive, tmp_path / "in", trusted=set())
    for name in ("SHA256SUMS.sig", "model.sig"):
        (bundle.path / name).unlink()
    unsigned = pack_bundle(bundle.path, tmp_path / "unsigned.tar")
    with pytest.raises(SignatureInvalid, match="not signed"):
        unpack_bundle(unsigned, tmp_path / "in", trusted={"SHA256:x"})
    assert names_in(tmp_path / "in") == []
    assert unpack_bundle(unsigned, tmp_path / "in").exists()


# Hostile archives

Members = list[tuple[tarfile.TarInfo, bytes]]


def members_of(archive: Path) -> Members:
    with tarfile.open(archive) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]


def rewritten(archive: Path, change: Callable[[Members], None], *, form: int = tarfile.PAX_FORMAT) -> Path:
    members = members_of(archive)
    change(members)
    with tarfile.open(archive, "w", format=form) as tar:
        for info, raw in members:
            tar.addfile(info, io.BytesIO(raw))
    return archive


def member(name: str, raw: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(raw), kind, link
    return info, raw


def set_content(index: int, raw: bytes) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        info, _ = members[index]
        info.size = len(raw)
        members[index] = (info, raw)

    return change


TOP = "milton_edge_bundle_v1.20260111.1425_20260111_142500"
HOSTILE: list[tuple[str, Callable[[Members], None], str]] = [
    ("a path that climbs out", lambda m: m.insert(4, member(f"{TOP}/../../evil", b"x")), "where its manifest has"),
    ("an absolute path", lambda m: m.insert(4, member("/milton-evil", b"x")), "where its manifest has"),
    ("an extra file at the end", lambda m: m.append(member(f"{TOP}/zzz", b"x")), "does not list"),
    (
        "a link for a file",
        lambda m: m.__setitem__(4, member(m[4][0].name, b"", tarfile.SYMTYPE, "/etc/passwd")),
        "no regular file",
    ),
    (
        "a hard link",
        lambda m: m.insert(4, member(m[4][0].name, b"", tarfile.LNKTYPE, f"{TOP}/manifest.json")),
        "no regular file",
    ),
    ("a device", lambda m: m.insert(4, member(f"{TOP}/dev", b"", tarfile.CHRTYPE)), "no regular file"),
    ("a pipe", lambda m: m.insert(4, member(f"{TOP}/pipe", b"", tarfile.FIFOTYPE)), "no regular file"),
    ("a folder", lambda m: m.insert(4, member(f"{TOP}/model", b"", tarfile.DIRTYPE)), "no regular file"),
    ("a file twice", lambda m: m.insert(5, m[4]), "where its manifest has"),
    ("files in another order", lambda m: m.insert(4, m.pop()), "where its manifest has"),
    ("a missing file", lambda m: m.pop(), "ends where its manifest has"),
    ("a longer file", lambda m: set_content(6, m[6][1] + b"x")(m), "as signed"),
    ("a shorter file", lambda m: set_content(6, m[6][1][:-1])(m), "as signed"),
    ("a changed file", lambda m: set_content(6, bytes(len(m[6][1])))(m), "not what the manifest lists"),
    ("no manifest", lambda m: m.pop(0), "does not begin with manifest.json"),
    ("no sums", lambda m: m.pop(1), "does not begin with SHA256SUMS"),
    ("the manifest twice", lambda m: m.insert(1, m[0]), "does not begin with SHA256SUMS"),
    ("a huge manifest", lambda m: set_content(0, b" " * (33 << 20))(m), "at most"),
    ("a broken manifest", lambda m: set_content(0, b"{}")(m), "schema_version"),
    ("a broken signature", lambda m: set_content(2, b"x")(m), "no armoured SSH signature"),
    ("sums of something else", lambda m: set_content(1, b"0" * 64 + b"  x\n")(m), "SHA256SUMS: does not list"),
    (
        "another folder's name",
        lambda m: [setattr(i, "name", i.name.replace(TOP, "other")) for i, _ in m] and None,
        "the archive's folder",
    ),
    ("nothing", lambda m: m.clear(), "does not begin with manifest.json"),
]


@pytest.mark.parametrize(("change", "why"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
def test_a_hostile_archive_is_refused_with_its_own_message_and_leaves_nothing(
    archive: Path, tmp_path: Path, change: Callable[[Members], None], why: str
) -> None:
    rewritten(archive, change)
    before = set(tmp_path.rglob("*"))
    with pytest.raises((BadInput, ReleaseDamaged, SignatureInvalid), match=why):
        unpack_bundle(archive, tmp_path / "in")
    assert names_in(tmp_path / "in") == []
    assert set(tmp_path.rglob("*")) - before <= {tmp_path / "in"}
    assert not Path("/milton-evil").exists()


def checksummed(block: bytes) -> bytes:
    blanked = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blanked) + block[156:]


def header(name: bytes = b"x", size: bytes = b"00000000000\0", kind: bytes = b"0") -> bytes:
    block = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size + b"00000000000\0" + b" " * 8 + kind
    return checksummed((block + bytes(100) + b"ustar\x0000").ljust(512, b"\0"))


def pax(*records: bytes, size: int | None = None) -> bytes:
    raw = b"".join(records)
    length = len(raw) if size is None else size
    return header(b"x", b"%011o\0" % length, b"x") + raw + bytes(-len(raw) % 512)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (header()[:-1], "cut short"),
        (b"\1" * 512, "not ustar"),
        (header().replace(b"ustar\x0000", b"ustar  \0"), "not ustar"),
        (b"y" + header()[1:], "checksum"),
        (header(size=b"\x80" + bytes(10) + b"\1"), "number"),
        (header(size=b"-0000000001\0"), "number"),
        (header(name=b"\xff"), "UTF-8"),
        (header(kind=b"L"), "type b'L'"),
        (header(kind=b"g"), "type b'g'"),
        (header(kind=b"S"), "type b'S'"),
        (pax(size=MAX_PAX_BYTES + 1), "more than"),
        (pax(b"10 path=a\n", b"10 path=b\n") + header(), "more than one"),
        (pax(b"12 linkpath=a\n") + header(), "more than one"),
        (pax(b"99 path=a\n") + header(), "more than one"),
        (pax(b"10 size=x\n") + header(), "no number"),
        (pax(b"10 path=a\n") + pax(b"10 path=a\n") + header(), "type b'x'"),
        (bytes(512) + header(), "single empty block"),
    ],
)
def test_a_header_that_we_do_not_write_is_refused(raw: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(raw)
    with pytest.raises(BadInput, match=why):
        unpack_bundle(path, tmp_path / "in")


@given(st.binary(max_size=1200))
def test_any_bytes_are_refused_as_bad_input(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    path = folder / "x.tar"
    path.write_bytes(raw)
    with pytest.raises(BadInput):
        unpack_bundle(path, folder / "in")


def test_an_archive_that_breaks_off_leaves_nothing(archive: Path, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    for length in range(0, len(whole) - 1024, 700):
        archive.write_bytes(whole[:length])
        with pytest.raises((BadInput, ReleaseDamaged)):
            unpack_bundle(archive, tmp_path / "in")
        assert names_in(tmp_path / "in") == []


def test_something_between_the_files_is_refused(archive: Path, tmp_path: Path) -> None:
    raw = bytearray(archive.read_bytes())
    end_of_manifest = 512 + len(members_of(archive)[0][1])
    raw[end_of_manifest] = 1
    archive.write_bytes(raw)
    with pytest.raises(BadInput, match="between its files"):
        unpack_bundle(archive, tmp_path / "in")


@pytest.mark.parametrize("more", [b"\0", b"\0" * 512, b"#!/bin/sh"])
def test_something_after_the_archives_end_is_refused(archive: Path, tmp_path: Path, more: bytes) -> None:
    archive.write_bytes(archive.read_bytes() + more)
    with pytest.raises(BadInput, match="goes on after its end"):
        unpack_bundle(archive, tmp_path / "in")
    assert names_in(tmp_path / "in") == []


def test_a_disk_that_does_not_take_the_bundle_is_told_as_such_and_nothing_is_left(
    archive: Path, tmp_path: Path
) -> None:
    with file_size_limit(1000), pytest.raises(DiskFailed, match="larger than this process may write"):
        unpack_bundle(archive, tmp_path / "in")
    assert names_in(tmp_path / "in") == []


def test_what_is_no_archive_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, why in ((tmp_path / "pipe", "no regular file"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(BadInput, match=why):
            unpack_bundle(path, tmp_path / "in")
