"""Bringing a model into the state folder and the registry: checked, copied with progress, complete or absent.

What belongs here: where a version's files lie below `models/`, putting them there, and registering them. What does
not: the registry file itself (`resources.registry`).

A file is copied, not linked, unless a link is asked for: whoever edits one name of a hard link edits both.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import fsync_dir
from milton_assets.vocabulary.gguf import read_header
from milton_assets.vocabulary.keys import check_key
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.registry import RegistryEntry
from milton_assets.vocabulary.state import StateDir
from resources.registry import add_entries, artefact_roots, new_entry, read_entry, refuse_taken

_CHUNK_BYTES: Final = 16 << 20
_MEGABYTE: Final = 1_000_000
_MARGIN_BYTES: Final = 64 << 20


def gguf_place(state: StateDir, version: str, quantization: str) -> Path:
    """`models/quantized/VERSION/model-QUANTISATION.gguf` below the state folder."""
    return state.quantized / check_key(version, "model version") / f"model-{quantization.lower()}.gguf"


def hf_place(state: StateDir, version: str) -> Path:
    """`models/distilled/VERSION` below the state folder."""
    return state.distilled / check_key(version, "model version")


def place_file(source: Path, target: Path, on_progress: OnProgress, *, link: bool = False) -> None:
    """Put `source` at `target`: a copy, or with `link` a hard link.

    Raises `BadInput` when there is no room, or the link cannot be made.
    """
    with _staged(target, 0 if link else source.stat().st_size) as staged:
        _put(source, staged, on_progress, link=link)


def place_directory(source: Path, target: Path, on_progress: OnProgress, *, link: bool = False) -> None:
    """Put the files below `source` below `target`, which must not exist. Raises as `place_file`."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    with _staged(target, 0 if link else sum(path.stat().st_size for path in files)) as staged:
        for path in files:
            place = staged / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            _put(path, place, on_progress, link=link)


def register_model(
    state: StateDir,
    version: str,
    *,
    base_model: str,
    gguf: Path | None = None,
    hf: Path | None = None,
    link: bool = False,
    on_progress: OnProgress = silent,
) -> RegistryEntry:
    """Register a GGUF, a Hugging Face directory or both as a candidate; return the entry as the registry reads it.

    Files that already lie where artefacts may lie are registered where they are, others are copied (or linked) into
    the state folder first. When anything fails, what was placed is removed. Raises `BadInput`.
    """
    roots = (state.root, *artefact_roots())
    placed: list[Path] = []
    try:
        if state.registry.exists():
            refuse_taken(state.registry, version)
        paths: dict[Literal["gguf", "hf"], str] = {}
        if gguf is not None:
            quantization = str(read_header(gguf).quantization)
            place = gguf_place(state, version, quantization)
            paths["gguf"] = _bring(gguf, place, roots, placed, on_progress, link=link)
        if hf is not None:
            if not (hf / "config.json").is_file():
                raise BadInput(f"{hf} has no config.json", expected="a Hugging Face model directory")
            paths["hf"] = _bring(hf, hf_place(state, version), roots, placed, on_progress, link=link)
        add_entries(state.registry, {version: new_entry(base_model, gguf=paths.get("gguf"), hf=paths.get("hf"))})
    except BaseException:
        for path in placed:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise
    return read_entry(
        state.registry, state.root, version, extra_roots=roots, cache=state.digest_cache, on_progress=on_progress
    )


def _bring(
    source: Path, place: Path, roots: tuple[Path, ...], placed: list[Path], on_progress: OnProgress, *, link: bool
) -> str:
    """Put `source` at `place` unless it lies below `roots`; return the path as an entry names it."""
    actual = source.resolve()
    if any(root.resolve() in actual.parents for root in roots):
        return _as_entry_names_it(actual, roots[0])
    if place.exists():
        raise BadInput(f"{place} exists already", remedy="remove it, or register it where it is")
    put = place_directory if source.is_dir() else place_file
    put(source, place, on_progress, link=link)
    placed.append(place)
    return _as_entry_names_it(place, roots[0])


def _as_entry_names_it(path: Path, state_root: Path) -> str:
    for root in (state_root, state_root.resolve()):
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
        staged.rename(target) if staged.is_dir() else staged.replace(target)
    fsync_dir(target.parent)


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
