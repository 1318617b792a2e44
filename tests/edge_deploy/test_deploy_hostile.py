"""What is not what its manifest says is refused with its own message, and nothing outside the target is touched."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from milton_assets.edge.deployment import DeploymentFailed, EdgeTarget, FileOps, Outcome, deploy
from milton_assets.edge.deployment.report import history
from milton_assets.edge.manifest import FileEntry, TensorTable, release_digest
from milton_assets.edge.release.disk import Fd
from tests.support.crashing import clock, healthy
from tests.support.edge_bundles import make_bundle, read_manifest, write_manifest

WEIGHTS = Path("model/weights.gguf")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundles", "v1")


def outside(target: EdgeTarget, swapped: Path | None) -> dict[Path, int]:
    """Everything beside the target and its history: path and time of change."""
    ours = {target.path, target.history_file.parent, swapped}
    return {
        path: path.lstat().st_mtime_ns for path in target.path.parent.rglob("*") if not ours & {path, *path.parents}
    }


def refusal(bundle: Path, target: EdgeTarget, ops: FileOps | None = None, *, swapped: Path | None = None) -> str:
    """Deploy, be refused, and check that nothing was put into service, staged or touched outside the target."""
    before = outside(target, swapped)
    with pytest.raises(DeploymentFailed) as raised:
        deploy(bundle, target, load_test=healthy, actor="ada", now=clock, ops=ops)
    assert not (target.path / "current").exists()
    assert list((target.path / "staging").iterdir()) == []
    assert list((target.path / "releases").iterdir()) == []
    assert history(target)[-1].outcome is Outcome.FAILED
    assert outside(target, swapped) == before
    return str(raised.value)


def truncated(weights: Path) -> None:
    os.truncate(weights, 100)


def lengthened(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes() + b"!")


def flipped(weights: Path) -> None:
    raw = bytearray(weights.read_bytes())
    raw[7000] ^= 1
    weights.write_bytes(raw)


def zeroed(weights: Path) -> None:
    weights.write_bytes(bytes(weights.stat().st_size))


def absent(weights: Path) -> None:
    weights.unlink()


def linked(weights: Path) -> None:
    secret = weights.parent.parent.parent.parent / "secret"
    weights.rename(secret)
    weights.symlink_to(secret)


def a_folder(weights: Path) -> None:
    weights.unlink()
    weights.mkdir()


def a_pipe(weights: Path) -> None:
    weights.unlink()
    os.mkfifo(weights)


def a_socket(weights: Path) -> None:
    weights.unlink()
    here = Path.cwd()
    os.chdir(weights.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(weights.name)
    finally:
        os.chdir(here)


def a_device(weights: Path) -> None:
    weights.unlink()
    try:
        os.mknod(weights, 0o20644, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("making a device needs rights that this user lacks")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (truncated, "model/weights.gguf: is truncated: it has 100 bytes, listed are 14128"),
        (lengthened, "model/weights.gguf: is too long: it has 14129 bytes, listed are 14128"),
        (flipped, "model/weights.gguf: has the SHA-256"),
        (zeroed, "model/weights.gguf: holds nothing but zero bytes"),
        (absent, "model/weights.gguf: is missing"),
        (linked, "model/weights.gguf: is a symbolic link, not a regular file"),
        (a_folder, "model/weights.gguf: is a folder, not a regular file"),
        (a_pipe, "model/weights.gguf: is a pipe, not a regular file"),
        (a_socket, "model/weights.gguf: is a socket, not a regular file"),
        (a_device, "model/weights.gguf: is a character device, not a regular file"),
    ],
)
def test_a_damaged_or_odd_file_is_refused(
    bundle: Path, target: EdgeTarget, change: Callable[[Path], None], message: str
) -> None:
    change(bundle / WEIGHTS)
    assert message in refusal(bundle, target)


def test_a_folder_that_is_a_link_is_not_followed(bundle: Path, target: EdgeTarget, tmp_path: Path) -> None:
    (bundle / "model").rename(tmp_path / "elsewhere")
    (bundle / "model").symlink_to(tmp_path / "elsewhere")
    assert "lies below something that is no folder" in refusal(bundle, target)


@pytest.mark.parametrize("name", ["manifest.json", "SHA256SUMS"])
def test_a_manifest_that_is_a_link_or_a_pipe_is_refused(bundle: Path, target: EdgeTarget, name: str) -> None:
    (bundle / name).rename(bundle / "aside")
    os.mkfifo(bundle / name)
    assert f"{name!r} is no regular file" in refusal(bundle, target)
    (bundle / name).unlink()
    (bundle / name).symlink_to(bundle / "aside")
    assert "leads through a link" in refusal(bundle, target)
    (bundle / name).unlink()
    assert f"holds no {name}" in refusal(bundle, target)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../outside.bin", "files.0.path: Value error, the path '../outside.bin' has an empty, '.' or '..' part"),
        ("/etc/cron.d/x", "files.0.path: Value error, the path '/etc/cron.d/x' is absolute"),
        ("model/../../outside.bin", "the path 'model/../../outside.bin' has an empty, '.' or '..' part"),
        ("model//x", "the path 'model//x' has an empty, '.' or '..' part"),
        ("model/a\nb", "holds a control or invisible character"),
        ("SHA256SUMS", "paths that are one on some file system: ['SHA256SUMS', 'SHA256SUMS']"),
    ],
)
def test_a_path_that_leaves_the_release_is_refused(bundle: Path, target: EdgeTarget, path: str, why: str) -> None:
    raw = json.loads((bundle / "manifest.json").read_bytes())
    raw["files"][0]["path"] = path
    (bundle / "manifest.json").write_text(json.dumps(raw))
    assert why in refusal(bundle, target)


@pytest.mark.parametrize("twin", ["model/WEIGHTS.gguf", "model/weights.gguf", "model/weights.gguf/below"])
def test_names_that_collide_are_refused(bundle: Path, target: EdgeTarget, twin: str) -> None:
    raw = json.loads((bundle / "manifest.json").read_bytes())
    raw["files"].append(raw["files"][-1] | {"path": twin})
    (bundle / "manifest.json").write_text(json.dumps(raw))
    message = refusal(bundle, target)
    assert "are one on some file system" in message or "is both a file and a folder" in message


def test_a_manifest_with_a_key_twice_is_refused(bundle: Path, target: EdgeTarget) -> None:
    raw = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(raw.replace("{", '{"name": "other",', 1))
    assert "the key 'name' appears twice" in refusal(bundle, target)


def test_a_manifest_beyond_its_limit_is_refused_without_reading_all_of_it(bundle: Path, target: EdgeTarget) -> None:
    with (bundle / "manifest.json").open("r+b") as stream:
        stream.truncate(1 << 40)
    assert "is larger than" in refusal(bundle, target)


def test_more_files_than_a_manifest_may_list_are_refused(bundle: Path, target: EdgeTarget) -> None:
    raw = json.loads((bundle / "manifest.json").read_bytes())
    raw["files"] = [raw["files"][0] | {"path": f"model/{n}"} for n in range(10_001)]
    (bundle / "manifest.json").write_text(json.dumps(raw))
    assert "at most 10000 items" in refusal(bundle, target)


def test_sums_that_contradict_the_manifest_are_refused(bundle: Path, target: EdgeTarget) -> None:
    sums = bundle / "SHA256SUMS"
    text = sums.read_text()
    sums.write_text(("1" if text.startswith("0") else "0") + text[1:])
    assert "SHA256SUMS says" in refusal(bundle, target)


def test_a_file_that_the_manifest_does_not_name_is_refused(bundle: Path, target: EdgeTarget) -> None:
    (bundle / "model" / "surprise.so").write_bytes(b"\x7fELF")
    assert "model/surprise.so: does not belong there" in refusal(bundle, target)


class SwappingOps(FileOps):
    """Someone exchanges the source's bytes after it was opened, and the staged bytes after they were written."""

    def __init__(self, source: Path | None = None, *, staged: bool = False) -> None:
        self.source = source
        self.staged = staged

    def read_into(self, handle: Fd, buffer: memoryview) -> int:
        if self.source is not None and self.source.samefile(f"/proc/self/fd/{handle}"):
            self.source.write_bytes(b"X" * self.source.stat().st_size)
        return super().read_into(handle, buffer)

    def fsync(self, handle: Fd) -> None:
        super().fsync(handle)
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if self.staged and path.name == WEIGHTS.name:
            path.write_bytes(b"Y" * path.stat().st_size)


def test_a_source_swapped_between_check_and_use_is_found_in_what_was_written(bundle: Path, target: EdgeTarget) -> None:
    source = bundle / WEIGHTS
    assert "has the SHA-256" in refusal(bundle, target, SwappingOps(source), swapped=source)


def test_a_staged_file_swapped_after_it_was_written_is_found_by_reading_it_back(
    bundle: Path, target: EdgeTarget
) -> None:
    assert "has the SHA-256" in refusal(bundle, target, SwappingOps(staged=True))


class InterferingOps(FileOps):
    """Someone works in the staging folder while the release is being written."""

    def __init__(self, interfere: Callable[[Path], None]) -> None:
        self.interfere = interfere
        self.done = False

    def fsync(self, handle: Fd) -> None:
        super().fsync(handle)
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if not self.done and path.parent.name == "staging":
            self.done = True
            self.interfere(path)


def hard_link(staged: Path) -> None:
    os.link(staged / WEIGHTS, staged.parent.parent / "lock.copy")


def add_file(staged: Path) -> None:
    (staged / "model" / "surprise.so").write_bytes(b"\x7fELF")


def replace_by_link(staged: Path) -> None:
    (staged / WEIGHTS).unlink()
    (staged / WEIGHTS).symlink_to("/dev/zero")


def exchange_for_another_release(staged: Path) -> None:
    other = make_bundle(staged.parent.parent / "another", "v9")
    for entry in staged.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for entry in other.iterdir():
        entry.rename(staged / entry.name)


@pytest.mark.parametrize(
    ("interfere", "message"),
    [
        (exchange_for_another_release, "says something else of itself than what it was accepted by"),
        (hard_link, "has 2 hard links, so it can be changed under another name"),
        (add_file, "model/surprise.so: does not belong there"),
        (replace_by_link, "model/weights.gguf: is a symbolic link, not a regular file"),
    ],
)
def test_what_was_added_to_the_staged_release_is_found(
    bundle: Path, target: EdgeTarget, interfere: Callable[[Path], None], message: str
) -> None:
    assert message in refusal(bundle, target, InterferingOps(interfere))


def test_a_weights_header_that_does_not_parse_is_never_loaded(tmp_path: Path, target: EdgeTarget) -> None:
    bundle = make_bundle(tmp_path / "bundles", "v1", weights=b"GGUF" + b"\xff" * 60)
    assert "model/weights.gguf: must not be loaded" in refusal(bundle, target)


def test_a_tensor_table_for_a_file_without_tensors_is_refused(bundle: Path, target: EdgeTarget) -> None:
    table = TensorTable(path=str(WEIGHTS), tensors=(), rest_blake3="0" * 64)
    write_manifest(bundle, read_manifest(bundle).model_copy(update={"tensor_tables": (table,)}))
    assert "has other tensors than the manifest's table" in refusal(bundle, target)


def test_a_bundle_that_is_no_folder_is_refused(tmp_path: Path, target: EdgeTarget) -> None:
    assert "does not exist" in refusal(tmp_path / "nothing", target)
    (tmp_path / "file.tar").write_bytes(b"")
    assert "is no folder" in refusal(tmp_path / "file.tar", target)


def test_a_release_digest_that_is_not_that_of_the_files_is_refused(bundle: Path, target: EdgeTarget) -> None:
    manifest = read_manifest(bundle)
    surplus = FileEntry(path="model/more.bin", size_bytes=1, sha256="0" * 64)
    assert release_digest((*manifest.files, surplus)) != manifest.release_digest
    raw = json.loads((bundle / "manifest.json").read_bytes())
    raw["files"].append(surplus.model_dump())
    (bundle / "manifest.json").write_text(json.dumps(raw))
    assert "release_digest is not the digest of the file list" in refusal(bundle, target)
