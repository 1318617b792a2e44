"""The artefacts that registries point to: found, judged, and digested through the cache of file facts.

What belongs here: what every registry does with a model's files. What does not: which files those are
(`vocabulary.artefact_files`), and where a registry keeps its entries.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from milton_assets.vocabulary.artefact_files import artefact_digest, artefact_files, check_parts
from milton_assets.vocabulary.chat_template import template_id
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.gguf_reader import read_header
from milton_assets.vocabulary.hf_directory import TOKENIZER, chat_template, chat_template_sha256, check_directory
from milton_assets.vocabulary.keys import MAX_KEY_LENGTH
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.registry import Artefact, ArtefactKind, Head
from milton_assets.vocabulary.state import StateDir
from resources.file_facts import FactsReader, GgufFacts

_Called = TypeVar("_Called")
SLUG_DIGITS = 8
"""How much of a digest tells two slugs apart."""

# RuntimeError: a loop of links, or an entry nested beyond the interpreter's depth. ValueError: pydantic, odd text.
NOT_HOLDING = (BadInput, OSError, ValueError, RuntimeError)
"""What judging one entry may raise: it is quarantined, and the others go on."""


def local_path(uri: str) -> Path:
    """The absolute path that a `file://` or `folder://` URI, or a bare path, names. Raises `BadInput`."""
    parts = urlsplit(uri)
    path = Path(uri if uri.startswith("/") else unquote(parts.path))
    if parts.netloc or not path.is_absolute() or (parts.scheme and (parts.query or parts.fragment)):
        raise BadInput(
            f"the registry {uri!r:.200} names no path on this machine",
            expected=f"{parts.scheme or 'file'}:///absolute/path",
        )
    return path


@dataclass(frozen=True)
class Surroundings:
    """What a registry is opened with: the state folder, where artefacts may lie, and which versions may run code.

    `artefact_roots` are folders beside the state folder; `allow_code` are versions, see `hf_directory.check_directory`.
    """

    state: StateDir
    artefact_roots: tuple[Path, ...] = ()
    allow_code: frozenset[str] = frozenset()

    def facts(self, *, hash_budget_s: float | None = None, on_progress: OnProgress = silent) -> FactsReader:
        """A reader of files' facts through the state folder's cache."""
        return FactsReader(self.state, hash_budget_s, on_progress)


@dataclass(frozen=True)
class ArtefactReader:
    """Finds and judges artefacts. Relative paths count from `root`; what they lead to must lie below one of `roots`."""

    root: Path
    roots: tuple[Path, ...]
    facts: FactsReader
    allow_code: frozenset[str] = frozenset()
    _resolved: list[Path] = field(default_factory=list, repr=False)

    def gguf(self, declared: str) -> Artefact:
        """The GGUF at a declared path, whole: of a split one, all parts.

        Raises `BadInput` with the reason when it is none that could be measured and deployed, `OSError`, and `NotYet`.
        """
        path = self._locate(declared)
        if path.is_dir():
            raise BadInput(
                f"{path} is a directory",
                expected="a GGUF file at metrics.compression.gguf_path",
                remedy="name the file; a directory belongs in metrics.distillation.model_path",
            )
        if not path.exists():
            raise BadInput(
                f"the GGUF {path} is missing",
                remedy="quantise the model to that path, or remove gguf_path and ask for hf-distilled",
            )
        return gguf_artefact(path, self.facts)

    def directory(self, declared: str, version: str) -> Artefact:
        """The Hugging Face directory at a declared path. Raises as `gguf`."""
        path = self._locate(declared)
        if not path.exists():
            raise BadInput(f"the distilled model {path} is missing", remedy="restore the directory or its path")
        if not path.is_dir():
            raise BadInput(f"{path} is a file", expected="a Hugging Face directory at metrics.distillation.model_path")
        return directory_artefact(path, self.facts, allow_code=version in self.allow_code)

    def base_template(self, base_model: str) -> str | None:
        """The chat template (`chat_template.TemplateId`) of a base model that is named by the path of its files.

        None where `base_model` is no such path. Raises as `base_head`.
        """
        head = self.base_head(base_model)
        if head is None:
            return None
        text = head.chat_template
        return template_id(None if text is None else sha256_bytes(text.encode(errors="surrogateescape")))

    def base_head(self, base_model: str) -> Head | None:
        """What a base model says of itself that is named by the path of its files.

        None where `base_model` is no such path: most are names. Raises `BadInput` where it is one that leads elsewhere
        than artefacts may lie, or to files that cannot be read.
        """
        try:
            named = self.root / base_model
            is_file = named.suffix.lower() == ".gguf" and named.is_file()
            is_directory = (named / "config.json").is_file()
        except (OSError, ValueError):  # a name may be longer than any path, or hold what no path can
            return None
        if not is_file and not is_directory:
            return None
        return head_of(self._locate(base_model))

    def _locate(self, declared: str) -> Path:
        if "\0" in declared:
            raise BadInput(f"the path {declared!r:.300} holds a null character", expected="a path that a file can have")
        # The name is kept as it is: llama.cpp finds a split model's parts by it, also through links into `blobs`.
        path = Path(os.path.normpath(self.root / declared))
        actual = path.resolve()
        if not self._resolved:
            self._resolved.extend(root.resolve() for root in self.roots)
        # As text: of thousands of entries, making every parent of a path takes longer than looking at the file.
        if not any(str(actual).startswith(f"{str(root).rstrip(os.sep)}{os.sep}") for root in self._resolved):
            raise BadInput(
                f"the path {declared!r:.300} leads to {actual}",
                expected=f"a path below {' or '.join(map(str, self._resolved))}",
                remedy="move the file there, or name its folder in MILTON_ARTEFACT_ROOTS",
            )
        return path


def head_of(path: Path) -> Head:
    """What the GGUF or the directory at `path` says of itself. Raises `BadInput`."""
    if path.is_dir():
        return Head(None, chat_template(path))
    header = read_header(path)
    return Head(header, header.chat_template)


def gguf_artefact(path: Path, facts: FactsReader) -> Artefact:
    """The artefact that the GGUF at `path` is (of a split one: the first part), judged. Raises as `FactsReader`."""
    if path.suffix.lower() != ".gguf":
        raise BadInput(f"{path} does not end in .gguf", expected="a GGUF file", remedy="give the file its right name")
    parts = {part: facts.of_gguf(part) for part in artefact_files(path).values()}
    return gguf_of(
        path,
        {part: found.header for part, found in parts.items()},
        size_bytes=sum(found.identity.size_bytes for found in parts.values()),
        sha256=artefact_digest(path, {part.name: found.sha256 for part, found in parts.items()}),
    )


def gguf_of(path: Path, parts: Mapping[_Called, GgufFacts], *, size_bytes: int, sha256: str) -> Artefact:
    """The GGUF at `path` by the headers of its parts, in order. Raises `BadInput` unless they are one whole model."""
    check_parts({called: header.part for called, header in parts.items()})
    headers = tuple(parts.values())
    return Artefact(
        kind=ArtefactKind.GGUF,
        path=str(path),
        size_bytes=size_bytes,
        sha256=sha256,
        quantization=next((q for header in headers if (q := header.quantization)), None),
        chat_template_sha256=headers[0].chat_template_sha256,
        tokenizer_sha256=headers[0].tokenizer_sha256,
    )


def directory_artefact(path: Path, facts: FactsReader, *, allow_code: bool) -> Artefact:
    """The artefact that the Hugging Face directory at `path` is, judged. Raises as `FactsReader`."""
    files = artefact_files(path)
    check_directory(path, files, allow_code=allow_code)
    found = {name: facts.of_file(file) for name, file in files.items()}
    return Artefact(
        kind=ArtefactKind.HF_DISTILLED,
        path=str(path),
        size_bytes=sum(each.identity.size_bytes for each in found.values()),
        sha256=artefact_digest(path, {name: each.sha256 for name, each in found.items()}),
        chat_template_sha256=chat_template_sha256(path),
        tokenizer_sha256=found[TOKENIZER].sha256 if TOKENIZER in found else None,
    )


def slug_of(plain: str, origin: str, *, limit: int = MAX_KEY_LENGTH) -> str:
    """`plain` as a slug of at most `limit` characters, the same every time.

    What a slug cannot hold becomes `-`, and then digits of `origin`'s digest tell it from its like.
    """
    slug = re.sub(r"\.{2,}", "-", re.sub(r"[^A-Za-z0-9._-]", "-", plain)).lstrip("._-")
    if slug == plain and len(slug) <= limit:
        return slug
    digest = sha256_bytes(os.fsencode(origin))[:SLUG_DIGITS]
    kept = slug[: limit - SLUG_DIGITS - 1].rstrip("._-")
    return f"{kept or 'model'}-{digest}"


def reason(error: Exception) -> str:
    """Why an entry does not hold, in one printable line."""
    if isinstance(error, ValidationError):
        said = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'entry'}: {problem['msg']}" for problem in error.errors()
        )
    else:
        said = str(error)
    return encodable(said)


def encodable(text: str) -> str:
    """`text` with what UTF-8 cannot hold, half characters, escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def unknown(version: str, known: Sequence[str]) -> BadInput:
    """The error of asking for a version that the registry does not have."""
    shown = ", ".join(map(encodable, known[:50])) + (f" and {len(known) - 50} more" if len(known) > 50 else "")
    return BadInput(
        f"model {version!r:.200} is not in the registry",
        expected=f"one of {shown or 'none, the registry is empty'}",
        remedy="`milton registry list` shows what there is, `milton registry add` registers a model",
    )


def taken(version: str) -> BadInput:
    """The error of registering a version that the registry has."""
    return BadInput(
        f"model {version} is registered already",
        expected="a version that no entry has",
        remedy="choose another; what was measured under a version stays tied to it",
    )


def quarantined(version: str, error: Exception) -> BadInput:
    """The error of asking for an entry that does not hold."""
    return BadInput(
        f"model {encodable(version)} is quarantined: {reason(error)}", remedy="correct its entry or its files"
    )
