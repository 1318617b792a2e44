"""Which files an artefact consists of, told from its path alone.

    files = artefact_files(path := Path("model-00001-of-00003.gguf"))   # three files, by name
    digest = artefact_digest(path, {name: sha256_file(file) for name, file in files.items()})

What belongs here: the parts of a split GGUF, the files of a Hugging Face directory, and the one digest over them. What
does not: judging what the files say (`gguf`, `hf_directory`) and reading their weights.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Self, TypeVar

from milton_assets.vocabulary.digest import sha256_listing
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.gguf import GgufHeader, check_model
from milton_assets.vocabulary.gguf_reader import read_header

MAX_DIRECTORY_FILES: Final = 10_000
MAX_PARTS: Final = 1_000
_SPLIT_NAME: Final = re.compile(r"(?P<prefix>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
"""How llama.cpp names the parts of a split GGUF, and finds the others from the first."""

_Called = TypeVar("_Called")


@dataclass(frozen=True)
class Part:
    """What the header of a GGUF says of its place among the parts: it is `number` (from 0) of `count`.

    `tensors` is how many it holds, `tensors_of_all` how many all parts are said to hold.
    """

    count: int
    number: int
    tensors: int
    tensors_of_all: int | None

    @classmethod
    def of(cls, header: GgufHeader) -> Self:
        """The place that a parsed header tells."""
        said = header.metadata.get("split.tensors.count")
        return cls(
            header.split_count, header.split_number, len(header.tensors), said if isinstance(said, int) else None
        )


def artefact_files(path: Path) -> dict[str, Path]:
    """The files of the artefact at `path` by their name within it, sorted: a GGUF's parts, or all of a directory.

    Raises `BadInput` when a part is missing, or a directory's link leads out of it.
    """
    if path.is_dir():
        return directory_files(path)
    return {part.name: part for part in _parts(path)}


def check_gguf(files: Mapping[str, Path]) -> None:
    """Raise `BadInput` unless a GGUF's files, from `artefact_files`, are by their headers one whole language model."""
    headers = {file: read_header(file) for file in files.values()}
    for file, header in headers.items():
        check_model(file, header)
    check_parts({file: Part.of(header) for file, header in headers.items()})


def artefact_digest(path: Path, digests: Mapping[str, str]) -> str:
    """The digest of the artefact at `path` from those of its files by name: one file's own, or that of the listing."""
    if len(digests) == 1 and not path.is_dir():
        return next(iter(digests.values()))
    return sha256_listing(digests)


def is_first_part(name: str) -> bool:
    """Whether a file of that name is a whole GGUF or the first part of a split one."""
    split = _SPLIT_NAME.fullmatch(name)
    return split is None or int(split["number"]) == 1


def part_names(name: str) -> tuple[str, ...]:
    """The names of all parts of the GGUF whose first part, or whole file, has that name.

    Raises `BadInput` for the name of a later part.
    """
    named = _SPLIT_NAME.fullmatch(name)
    if named is None:
        return (name,)
    number, count = int(named["number"]), int(named["count"])
    if number != 1 or not 1 <= count <= MAX_PARTS:
        raise BadInput(
            f"{name} is part {number} of {count} of a split GGUF", expected=f"the first of at most {MAX_PARTS}"
        )
    return tuple(f"{named['prefix']}-{each:05}-of-{count:05}.gguf" for each in range(1, count + 1))


def without_part(name: str) -> str:
    """The name of a GGUF file without its suffix and without the number of the part that it is."""
    split = _SPLIT_NAME.fullmatch(name)
    return split["prefix"] if split else PurePosixPath(name).stem


def _parts(path: Path) -> tuple[Path, ...]:
    """Where llama.cpp looks for the parts of the GGUF at `path`."""
    named = _SPLIT_NAME.fullmatch(path.name)
    if named is None:
        return (path,)
    number, count = int(named["number"]), int(named["count"])
    if number != 1:
        raise BadInput(
            f"{path} is part {number} of {count} of a split GGUF",
            expected="the first part, which stands for all",
            remedy=f"name {named['prefix']}-00001-of-{count:05}.gguf",
        )
    if not 1 <= count <= MAX_PARTS:
        raise BadInput(f"{path} says that it is one of {count} parts", expected=f"1 to {MAX_PARTS}")
    names = (f"{named['prefix']}-{each:05}-of-{count:05}.gguf" for each in range(1, count + 1))
    parts = tuple(path.with_name(name) for name in names)
    if missing := [part.name for part in parts if not part.is_file()]:
        raise BadInput(
            f"{path} is one of {count} parts of a split GGUF, and there is no {', '.join(missing[:3])}",
            expected="all parts in one folder",
            remedy="fetch what is missing, or join the parts elsewhere with `llama-gguf-split --merge`",
        )
    return parts


def check_parts(parts: Mapping[_Called, Part]) -> None:
    """Raise `BadInput` unless the parts, in this order, are one model, and none is left out."""
    for number, (path, part) in enumerate(parts.items()):
        if (part.count, part.number) != (len(parts), number):
            raise BadInput(
                f"{path} says that it is part {part.number + 1} of {part.count}",
                expected=f"part {number + 1} of {len(parts)}, as its name says",
                remedy=f"give all parts their own names back (the first ends in -00001-of-{part.count:05}.gguf), or "
                "join them with `llama-gguf-split --merge`",
            )
    if len(parts) == 1:
        return
    first, head = next(iter(parts.items()))
    found = sum(part.tensors for part in parts.values())
    if head.tensors_of_all != found:
        raise BadInput(
            f"the parts of {first} hold {found} tensors",
            expected=f"{head.tensors_of_all}, as the first part says",
            remedy="fetch the parts again, all from one model",
        )


def directory_files(folder: Path) -> dict[str, Path]:
    """Every file below `folder` by its relative POSIX name, sorted.

    A link may lead to a file below `folder`, or, as the snapshots of the Hugging Face cache do, into that repository's
    `blobs`; nothing else that it could lead to belongs to the model. Raises `BadInput` for any other link, for what is
    no regular file, and for too many files.
    """
    files = dict(_walk(folder))
    return {name: files[name] for name in sorted(files)}


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    homes = (folder.resolve(), *hub_blobs(folder))
    count = 0
    for parent, folders, names in os.walk(folder, onerror=_raise):
        for name in folders:
            if (Path(parent) / name).is_symlink():
                raise BadInput(f"{Path(parent) / name} is a link to a folder", expected="plain folders")
        for name in names:
            count += 1
            if count > MAX_DIRECTORY_FILES:
                raise BadInput(f"{folder} holds more than {MAX_DIRECTORY_FILES} files", expected="a model's directory")
            file = Path(parent) / name
            _check_file(file, homes)
            yield file.relative_to(folder).as_posix(), file


def _check_file(file: Path, homes: tuple[Path, ...]) -> None:
    actual = file.resolve()
    if not actual.exists():
        raise BadInput(
            f"{file} is a link to {actual}, which is missing", remedy="fetch the model again, or remove the link"
        )
    if not any(home in actual.parents for home in homes):
        raise BadInput(
            f"{file} is a link that leads to {actual}, out of the model",
            expected=f"files of {homes[0]} itself",
            remedy="put the file there in place of the link, if it belongs to the model",
        )
    if not stat.S_ISREG(actual.stat().st_mode):
        raise BadInput(f"{file} is no regular file", expected="a directory of plain files")


def hub_blobs(folder: Path) -> tuple[Path, ...]:
    """Where the files of a snapshot of the Hugging Face cache lie (`models--ORG--NAME/snapshots/REVISION`)."""
    actual = folder.resolve()
    for snapshots in actual.parents:
        blobs = snapshots.parent / "blobs"
        if snapshots.name == "snapshots" and blobs.is_dir() and not blobs.is_symlink():
            return (blobs,)
    return ()


def _raise(error: OSError) -> None:
    raise error
