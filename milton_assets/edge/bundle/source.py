"""The artefact on disk, checked before a byte of it is copied.

What belongs here: finding the files of a GGUF or of a distilled folder, and refusing what is of the wrong kind. What
does not: reading the weights (`create`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from milton_assets.edge.manifest import MAX_FILES, MODEL_DIR, check_no_collision, check_path
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import Artefact, ArtefactKind


@dataclass(frozen=True)
class SourceFile:
    """One file of the artefact: where it is, and its path in the bundle."""

    source: Path
    path: str
    size_bytes: int


@dataclass(frozen=True)
class Source:
    """The artefact's files, and the path in the bundle that stands for all of them."""

    files: tuple[SourceFile, ...]
    primary: str

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)


def find_source(artefact: Artefact) -> Source:
    """The files of `artefact`.

    Raises `BadInput` when it is missing, of the wrong kind, or holds what a bundle cannot carry.
    """
    path = Path(artefact.path)
    if artefact.kind is ArtefactKind.GGUF:
        return _gguf(path)
    return _folder(path)


def _gguf(path: Path) -> Source:
    if path.is_dir():
        raise BadInput(
            f"{path} is a folder",
            expected="a GGUF file",
            remedy="point metrics.compression.gguf_path at the file, or ask for the full directory with "
            "--artifact hf-distilled",
        )
    if not path.exists():
        raise BadInput(
            f"the GGUF {path} is missing",
            expected="the file that the registry entry names in metrics.compression.gguf_path",
            remedy="quantise the model again (or restore the file), or ask for the full directory with "
            "--artifact hf-distilled",
        )
    if not path.is_file():
        raise BadInput(f"{path} is no regular file", expected="a GGUF file")
    if path.suffix.lower() != ".gguf":
        raise BadInput(f"{path} does not end in .gguf", expected="a GGUF file", remedy="register the quantised file")
    relative = check_path(f"{MODEL_DIR}/{path.name}")
    return Source((SourceFile(path, relative, path.stat().st_size),), relative)


def _folder(root: Path) -> Source:
    if root.is_file():
        raise BadInput(
            f"{root} is a file", expected="a Hugging Face directory", remedy="deploy the GGUF with --artifact gguf"
        )
    if not root.is_dir():
        raise BadInput(
            f"the directory {root} is missing",
            expected="the directory that the registry entry names in metrics.distillation.model_path",
            remedy="restore it, or deploy the GGUF with --artifact gguf",
        )
    files = tuple(sorted(_files_below(root, root), key=lambda file: file.path))
    if not any(file.path == f"{MODEL_DIR}/config.json" for file in files):
        raise BadInput(f"{root} holds no config.json", expected="a Hugging Face directory")
    check_no_collision([file.path for file in files])
    return Source(files, MODEL_DIR)


def _files_below(folder: Path, root: Path) -> Iterator[SourceFile]:
    """Regular files, also through links to files (the Hugging Face cache consists of them), never through folders'."""
    count = 0
    for here, folders, names in os.walk(folder, onerror=_raise):
        for name in folders:
            if (Path(here) / name).is_symlink():
                raise BadInput(f"{Path(here) / name} is a link to a folder", expected="plain folders")
        for name in names:
            source = Path(here) / name
            if not source.is_file():
                raise BadInput(f"{source} is no regular file", expected="regular files only")
            count += 1
            if count > MAX_FILES - 16:
                raise BadInput(f"{root} holds more than {MAX_FILES - 16} files", expected="a model's directory")
            relative = check_path(f"{MODEL_DIR}/{source.relative_to(root).as_posix()}")
            yield SourceFile(source, relative, source.stat().st_size)


def _raise(error: OSError) -> None:
    raise error
