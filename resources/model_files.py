"""Bringing a model's files to where a registry keeps them: checked, copied with progress, complete or absent.

What belongs here: where a version's files lie below `models/`, and putting them there. What does not: registries
(`resources.registries`), and what they say of the files.

A file is copied, not linked, unless a link is asked for: whoever edits one name of a hard link edits both.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from milton_assets.vocabulary.artefact_files import artefact_files, check_gguf
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import fsync_dir
from milton_assets.vocabulary.hf_directory import check_directory
from milton_assets.vocabulary.keys import check_key
from milton_assets.vocabulary.progress import OnProgress, Progress

_CHUNK_BYTES: Final = 16 << 20
_MEGABYTE: Final = 1_000_000
_MARGIN_BYTES: Final = 64 << 20


def gguf_folder(root: Path, version: str) -> Path:
    """`models/quantized/VERSION` below `root`: the version's GGUF, one file or its parts, under their own names."""
    return root / "models" / "quantized" / check_key(version, "model version")


def hf_folder(root: Path, version: str) -> Path:
    """`models/distilled/VERSION` below `root`."""
    return root / "models" / "distilled" / check_key(version, "model version")


def place_file(source: Path, target: Path, on_progress: OnProgress, *, link: bool = False) -> None:
    """Put `source` at `target`: a copy, or with `link` a hard link.

    Raises `BadInput` when there is no room, or the link cannot be made.
    """
    with _staged(target, 0 if link else source.stat().st_size) as staged:
        _put(source, staged, on_progress, link=link)


def place_files(files: Mapping[str, Path], target: Path, on_progress: OnProgress, *, link: bool = False) -> None:
    """Put `files`, by relative name, into the folder `target`, which appears whole.

    Raises `BadInput` when there is something at `target`, and as `place_file`.
    """
    with _staged(target, 0 if link else sum(path.stat().st_size for path in files.values())) as staged:
        for name, path in files.items():
            place = staged / name
            place.parent.mkdir(parents=True, exist_ok=True)
            _put(path, place, on_progress, link=link)


@dataclass
class Placing:
    """One version's files on their way below `root`; what already lies below one of `roots` stays where it is."""

    root: Path
    version: str
    roots: tuple[Path, ...]
    on_progress: OnProgress
    link: bool
    placed: list[Path] = field(default_factory=list)


@contextmanager
def placing(
    root: Path, version: str, roots: tuple[Path, ...], on_progress: OnProgress, *, link: bool
) -> Iterator[Placing]:
    """Bring a version's files; what was placed is removed again when the block fails."""
    place = Placing(root, version, roots, on_progress, link)
    try:
        yield place
    except BaseException:
        for path in place.placed:
            shutil.rmtree(path)
        raise


def bring_gguf(source: Path, place: Placing) -> str:
    """Bring a GGUF, of a split one the first part with all others; return its path as an entry names it.

    Raises `BadInput` when it is not a whole model, before anything is copied.
    """
    if source.is_dir():
        raise BadInput(f"{source} is a directory", expected="a GGUF file", remedy="give the directory with --hf")
    files = artefact_files(source)
    check_gguf(files)
    if source.suffix.lower() != ".gguf":
        raise BadInput(f"{source} does not end in .gguf", expected="a GGUF file", remedy="give it its right name")
    folder = gguf_folder(place.root, place.version)
    return _bring(source, files, folder, folder / source.name, place)


def bring_hf(source: Path, place: Placing, *, allow_code: bool) -> str:
    """Bring a Hugging Face directory; return its path as an entry names it. Raises as `bring_gguf`."""
    if not source.is_dir():
        raise BadInput(f"{source} is no directory", expected="a Hugging Face model directory")
    files = artefact_files(source)
    check_directory(source, files, allow_code=allow_code)
    folder = hf_folder(place.root, place.version)
    return _bring(source, files, folder, folder, place)


def _bring(source: Path, files: Mapping[str, Path], folder: Path, named: Path, place: Placing) -> str:
    """Put `files` into `folder` unless `source` lies below the roots; return the path as an entry names it."""
    lies = Path(os.path.normpath(source.absolute()))
    if all(_below(path, place.roots) for path in (lies, lies.resolve())):
        return _as_entry_names_it(lies, place.root)
    if _below(lies.resolve(), place.roots) and len(files) == 1:
        return _as_entry_names_it(lies.resolve(), place.root)
    if folder.exists():
        raise BadInput(f"{folder} exists already", remedy="remove it, or register what it holds where it is")
    place_files(files, folder, place.on_progress, link=place.link)
    place.placed.append(folder)
    return _as_entry_names_it(named, place.root)


def _below(path: Path, roots: tuple[Path, ...]) -> bool:
    return any(root in path.parents or root.resolve() in path.parents for root in roots)


def _as_entry_names_it(path: Path, home: Path) -> str:
    for root in (home, home.resolve()):
        if root in path.parents:
            return path.relative_to(root).as_posix()
    return str(path)


@contextmanager
def _staged(target: Path, size_bytes: int) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(target.parent).free
    if size_bytes + _MARGIN_BYTES > free_bytes:
        raise BadInput(
            f"{target.parent} has {free_bytes // _MEGABYTE} MB free",
            expected=f"{(size_bytes + _MARGIN_BYTES) // _MEGABYTE} MB",
            remedy="make room, or move the state folder with MILTON_STATE_DIR",
        )
    with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        staged = Path(folder) / target.name
        yield staged
        _publish(staged, target)
    fsync_dir(target.parent)


def _publish(staged: Path, target: Path) -> None:
    if not staged.is_dir():
        staged.replace(target)
        return
    try:
        staged.rename(target)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            raise
        raise BadInput(
            f"{target} was made by somebody else meanwhile",
            expected="one `milton registry add` of a version at a time",
            remedy="choose another version",
        ) from None


def _put(source: Path, target: Path, on_progress: OnProgress, *, link: bool) -> None:
    if link:
        try:
            os.link(source.resolve(), target)
        except OSError as error:
            raise BadInput(
                f"{source} cannot be linked to {target.parent} ({error})",
                expected="both on one file system",
                remedy="leave out --link to copy it",
            ) from error
        return
    total_bytes = source.stat().st_size
    done_bytes = 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            done_bytes += len(chunk)
            if done_bytes % (16 * _CHUNK_BYTES) == 0 or done_bytes == total_bytes:
                megabytes = (done_bytes // _MEGABYTE, max(total_bytes // _MEGABYTE, done_bytes // _MEGABYTE))
                on_progress(Progress("copy", *megabytes, f"MB of {source.name}"))
        writer.flush()
        os.fsync(writer.fileno())
