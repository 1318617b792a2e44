"""What an artefact in an object store says of itself, read by range requests: its weights stay where they are.

    gguf_head(UPath("s3://bucket/models/v1/model-q4_0.gguf"), sha256, here)   # some MB of any size
    directory_head(UPath("s3://bucket/models/v1/distilled"), sha256, here, allow_code=False)

    head_at(UPath("s3://bucket/models/v1/model-q4_0.gguf")).chat_template

What belongs here: judging an artefact by what it begins with, as `artefacts` judges files: a GGUF's headers; of a
directory the JSON, the template, and how everything else begins; and showing that. What does not: fetching and
verifying (`artefact_cache`).

The digest of an artefact that was judged so is the registry's word. Whoever serves it shows that it holds: by the
digest that a server tells, or by hashing what was fetched (`resources.servers.identity`).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from upath import UPath

from milton_assets.vocabulary.artefact_files import artefact_files
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.gguf import GgufHeader
from milton_assets.vocabulary.gguf_reader import parse_header
from milton_assets.vocabulary.hf_directory import (
    LFS_POINTER,
    MAX_JSON_BYTES,
    TEMPLATE_FILES,
    TOKENIZER,
    chat_template,
    chat_template_sha256,
    check_beginning,
    check_directory,
    is_read_whole,
)
from milton_assets.vocabulary.registry import Artefact, ArtefactKind, Head
from resources.file_facts import GgufFacts
from resources.registries.artefact_cache import reading, sizes_bytes
from resources.registries.artefacts import gguf_of

_RANGE_BYTES: Final = 1 << 20
"""Headers end within the first of these, or, with a large vocabulary, within a dozen."""

_MAX_HEAD_BYTES: Final = 4 * MAX_JSON_BYTES


def gguf_head(place: UPath, sha256: str, path: Path) -> Artefact:
    """The GGUF at `place` (of a split one the first part) by its headers; `path` is where it would lie on this host.

    Raises `BadInput` with the reason when it is none that could be measured and deployed, and `RegistryUnreadable`.
    """
    with reading(place):
        sizes = sizes_bytes(place)
        files = {place.parent / name: size for name, size in sizes.items()}
        parts = {str(part): GgufFacts.of(part, _header(part, size)) for part, size in files.items()}
    return gguf_of(path, parts, size_bytes=sum(sizes.values()), sha256=sha256)


def directory_head(place: UPath, sha256: str, path: Path, *, allow_code: bool) -> Artefact:
    """The Hugging Face directory at `place` by all of it but its weights. Raises as `gguf_head`."""
    with TemporaryDirectory(prefix="milton-head-") as scratch:
        with reading(place):
            sizes = sizes_bytes(place)
            _bring_heads(place, sizes, Path(scratch))
        here = Path(scratch) / place.name
        files = artefact_files(here)
        check_directory(place, files, allow_code=allow_code)
        return Artefact(
            kind=ArtefactKind.HF_DISTILLED,
            path=str(path),
            size_bytes=sum(sizes.values()),
            sha256=sha256,
            chat_template_sha256=chat_template_sha256(here),
            tokenizer_sha256=sha256_file(files[TOKENIZER]) if TOKENIZER in files else None,
        )


def head_at(place: UPath) -> Head:
    """What the artefact at `place` says of itself, as `artefacts.head_of`. Raises as `gguf_head`."""
    with reading(place):
        sizes = sizes_bytes(place)
        if place.suffix.lower() == ".gguf":
            header = _header(place, sizes[place.name])
            return Head(header, header.chat_template)
        with TemporaryDirectory(prefix="milton-head-") as scratch:
            telling = {f"{place.name}/{name}" for name in TEMPLATE_FILES}
            _bring_heads(place, {name: size for name, size in sizes.items() if name in telling}, Path(scratch))
            return Head(None, chat_template(Path(scratch) / place.name))


def _header(part: UPath, size_bytes: int) -> GgufHeader:
    with part.fs.open(part.path, "rb", cache_type="none") as remote, io.BufferedReader(remote, _RANGE_BYTES) as stream:
        check_beginning(part, stream.peek(len(LFS_POINTER)))
        return parse_header(stream, size_bytes, part)


def _bring_heads(place: UPath, sizes: Mapping[str, int], into: Path) -> None:
    """Write what judging reads of the directory's files below `into`: of most, how they begin."""
    whole = {name for name in sizes if is_read_whole(name.removeprefix(f"{place.name}/"))}
    if large := [name for name in whole if sizes[name] > MAX_JSON_BYTES]:
        raise BadInput(f"{place.parent / large[0]} has {sizes[large[0]]} bytes", expected="some megabytes of text")
    if (total := sum(sizes[name] for name in whole)) > _MAX_HEAD_BYTES:
        raise BadInput(f"{place} describes itself in {total} bytes", expected=f"at most {_MAX_HEAD_BYTES}")
    for name, size_bytes in sizes.items():
        wanted = size_bytes if name in whole else min(size_bytes, len(LFS_POINTER))
        source = place.parent / name
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        # No range holds nothing, and stores refuse to give it.
        (into / name).write_bytes(source.fs.cat_file(source.path, start=0, end=wanted) if wanted else b"")
