"""Digests of large files, remembered for as long as a file's identity stays the same.

What belongs here: the cache that spares a sensor hashing gigabytes on every tick. What does not: verification before
bundling or deploying, which always hashes anew. Dagster-free.

The cache names files as `StateDir.tell` does, so that a state folder that was moved need not be hashed again.

A file is the same while its path, size, modification and change times, inode and device are. A file that changed
within the last `SETTLE_S` seconds is hashed but not remembered: it could change again within one tick of the clock.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, RootModel, ValidationError

from milton_assets.vocabulary.artefact_files import Part
from milton_assets.vocabulary.digest import Sha256, sha256_bytes, sha256_file
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.gguf import GgufHeader, check_model
from milton_assets.vocabulary.gguf_reader import read_header
from milton_assets.vocabulary.hf_directory import check_no_pointer
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.state import StateDir

SETTLE_S: Final = 2.0
LOCK_TIMEOUT_S: Final = 5.0
WORTH_TELLING_BYTES: Final = 500_000_000
"""Of larger files it is said that they are being hashed: it takes half a second and more."""

_log = logging.getLogger(__name__)


class NotYet(Exception):
    """The time that hashing may take is spent; ask again later."""


class Identity(BaseModel):
    """What tells one state of a file from another without reading it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """The identity of the file at `path` now. Raises `OSError`."""
        facts = path.stat()
        return cls(
            size_bytes=facts.st_size,
            mtime_ns=facts.st_mtime_ns,
            ctime_ns=facts.st_ctime_ns,
            inode=facts.st_ino,
            device=facts.st_dev,
        )

    def settled(self) -> bool:
        """Whether the last change is long enough ago for the identity to tell a later one."""
        return time.time() - max(self.mtime_ns, self.ctime_ns) / 1e9 > SETTLE_S


class GgufFacts(BaseModel):
    """What a GGUF's header says, as far as the registry needs it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantization: str | None
    base_model: str | None
    chat_template_sha256: Sha256 | None
    tokenizer_sha256: Sha256 | None
    part: Part

    @classmethod
    def of(cls, path: object, header: GgufHeader) -> Self:
        """The facts of a file that is called `path`. Raises `BadInput` unless it is a model's weights."""
        check_model(path, header)
        template = header.chat_template
        return cls(
            quantization=header.quantization,
            base_model=header.base_model,
            chat_template_sha256=None if template is None else sha256_bytes(template.encode()),
            tokenizer_sha256=header.tokenizer_sha256,
            part=Part.of(header),
        )


class FileFacts(BaseModel):
    """One file: its identity, its digest and, of a GGUF, what its header says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: Identity
    sha256: Sha256
    gguf: GgufFacts | None = None

    @property
    def header(self) -> GgufFacts:
        """What the GGUF's header says. Raises `TypeError` for a file that was not read as a GGUF."""
        if self.gguf is None:
            raise TypeError("the file was not read as a GGUF")
        return self.gguf


class _Remembered(RootModel[dict[str, FileFacts]]):
    pass


class FactsReader:
    """Reads files' facts through the cache of `state`, hashing for `budget_s` seconds at most (None: without limit).

    The first file that is not remembered is always hashed, whatever the budget, so that repeated readings get on.
    """

    def __init__(self, state: StateDir, budget_s: float | None = None, on_progress: OnProgress = silent) -> None:
        self._state = state
        self._cache = state.digest_cache
        self._on_progress = on_progress
        self._deadline = None if budget_s is None else time.monotonic() + budget_s
        self._hashed_any = False
        self._remembered = _load(self._cache)
        self._fresh: dict[str, FileFacts] = {}

    def of_file(self, path: Path) -> FileFacts:
        """Facts of a plain file.

        Raises `NotYet`, `OSError`, and `BadInput` when it is a Git LFS pointer or changes while it is read.
        """
        return self._facts(path, gguf=False)

    def of_gguf(self, path: Path) -> FileFacts:
        """Facts of a GGUF, whole or a part.

        Raises as `of_file`, and `BadInput` when its header does not parse or is not that of a model's weights.
        """
        return self._facts(path, gguf=True)

    def save(self) -> None:
        """Add what was hashed to the cache file, and drop what is no longer there.

        A cache that cannot be written is reported in the log: it only costs hashing again.
        """
        if not self._fresh:
            return
        try:
            with locked(self._cache.with_name(f".{self._cache.name}.lock"), timeout_s=LOCK_TIMEOUT_S):
                merged = {**_load(self._cache), **self._fresh}
                kept = {told: facts for told, facts in merged.items() if self._state.place(told).exists()}
                write_atomic(self._cache, _Remembered(kept).model_dump_json(indent=1))
        except (OSError, BadInput) as error:
            _log.warning("digests could not be remembered in %s (%s)", self._cache, error)
        self._fresh = {}

    def _facts(self, path: Path, *, gguf: bool) -> FileFacts:
        key = self._state.tell(path)
        identity = Identity.of(path)
        known = self._remembered.get(key)
        if known is not None and known.identity == identity and (known.gguf is not None or not gguf):
            return known
        check_no_pointer(path)
        header_facts = GgufFacts.of(path, read_header(path)) if gguf else None
        if self._hashed_any and self._deadline is not None and time.monotonic() > self._deadline:
            raise NotYet
        self._hashed_any = True
        if identity.size_bytes >= WORTH_TELLING_BYTES:
            megabytes = identity.size_bytes // 1_000_000
            self._on_progress(Progress("hash", 0, megabytes, f"MB of {path}, once"))
        facts = FileFacts(identity=identity, sha256=sha256_file(path), gguf=header_facts)
        if Identity.of(path) != identity:
            raise BadInput(f"{path} changed while it was read", remedy="wait until whoever writes it is done")
        if identity.settled():
            self._remembered[key] = self._fresh[key] = facts
        return facts


def _load(cache: Path) -> dict[str, FileFacts]:
    if not cache.exists():
        return {}
    try:
        return _Remembered.model_validate(json.loads(cache.read_bytes())).root
    except (ValueError, ValidationError) as error:
        _log.warning("%s is no digest cache (%s); its files are hashed again", cache, type(error).__name__)
        return {}
