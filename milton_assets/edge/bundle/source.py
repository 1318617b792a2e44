"""The artefact on disk, checked before a byte of it is copied.

What belongs here: finding the files of a GGUF or of a distilled folder, and refusing what is of the wrong kind. What
does not: reading the weights (`create`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from milton_assets.edge.manifest import MAX_FILES, MODEL_DIR, check_no_collision
from milton_assets.edge.relative_path import check_path
from milton_assets.vocabulary.artefact_files import artefact_files, check_gguf
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
    parts = artefact_files(path)
    check_gguf(parts)
    files = tuple(_placed(name, file) for name, file in parts.items())
    return Source(files, files[0].path)


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
    files = tuple(_placed(name, file) for name, file in artefact_files(root).items())
    if len(files) > MAX_FILES - 16:
        raise BadInput(f"{root} holds more than {MAX_FILES - 16} files", expected="a model's directory")
    if not any(file.path == f"{MODEL_DIR}/config.json" for file in files):
        raise BadInput(f"{root} holds no config.json", expected="a Hugging Face directory")
    check_no_collision([file.path for file in files])
    return Source(files, MODEL_DIR)


def _placed(name: str, file: Path) -> SourceFile:
    return SourceFile(file, check_path(f"{MODEL_DIR}/{name}"), file.stat().st_size)
