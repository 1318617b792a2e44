"""Where evidence lies: immutable Parquet files, and a pointer to the latest of each partition.

What belongs here: writing a table once, moving the pointer, reading a file back against its digest; on this machine
or behind any fsspec URL. What does not: Dagster (`resources.parquet_io` wires this in) and what the tables mean.

Layout below the root: `<asset>/<partition>/<UTC time>_<digest>.parquet` and beside them `latest.json`, which names
the newest file, its SHA-256 and the run that wrote it. A partition of two dimensions (`pi5|v1`) is two folders.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError
from upath import UPath

from milton_assets.vocabulary.digest import Sha256, sha256_bytes, short
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.evidence import EvidenceManifest, Found
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.keys import check_key
from milton_assets.vocabulary.places import asking, is_here, lies

_POINTER = "latest.json"


class Pointer(BaseModel):
    """The content of `latest.json`. `uri` is relative to the store's root."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    sha256: Sha256
    dagster_run_id: str


@dataclass(frozen=True)
class EvidenceFile:
    """One immutable table, not read yet. `uri` is relative to the store's root."""

    store: EvidenceStore
    uri: str
    sha256: str
    dagster_run_id: str

    def read(self) -> pa.Table:
        """The table. Raises `EvidenceMismatch` when the file is missing or has another digest."""
        return pq.read_table(pa.BufferReader(self.store.read_bytes(self.uri, self.sha256)))


def to_parquet_bytes(table: pa.Table) -> bytes:
    """The table as Parquet. The same table gives the same bytes with the same pyarrow release."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


class EvidenceStore:
    """A folder of evidence: a local path, or an fsspec URL such as `s3://bucket/milton`."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = UPath(root)

    @property
    def runs(self) -> UPath:
        """Where the runs' summaries lie."""
        return self.root / "runs"

    @property
    def is_here(self) -> bool:
        """Whether it is a folder of this machine; else it is where hosts meet."""
        return is_here(self.root)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EvidenceStore) and str(self.root) == str(other.root)

    def __hash__(self) -> int:
        return hash(str(self.root))

    def write(self, asset: str, partition: str, table: pa.Table, dagster_run_id: str) -> EvidenceFile:
        """Write `table` as a new file of that partition and point `latest` to it. Never overwrites a file."""
        content = to_parquet_bytes(table)
        uri = self.put(asset, partition, content, suffix=".parquet")
        pointer = Pointer(uri=uri, sha256=sha256_bytes(content), dagster_run_id=dagster_run_id)
        self._write(f"{_folder(asset, partition)}/{_POINTER}", pointer.model_dump_json(indent=2).encode())
        return EvidenceFile(self, uri, pointer.sha256, dagster_run_id)

    def put(self, asset: str, partition: str, content: bytes, *, suffix: str) -> str:
        """Keep `content` for ever under a name of its own; the URI relative to the root."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        uri = f"{_folder(asset, partition)}/{stamp}_{short(sha256_bytes(content))}{suffix}"
        if lies(self.root / uri):
            raise BadInput(f"the evidence file {uri} exists already", expected="a new name for every file")
        self._write(uri, content)
        return uri

    def keep(self, uri: str, content: bytes) -> None:
        """Keep `content` at a URI of its own: one that names its digest, or one where the last to write counts."""
        self._write(uri, content)

    def keep_file(self, uri: str, source: Path) -> None:
        """As `keep`, for a file that may be larger than memory."""
        path = self._path(uri)
        with asking(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.fs.put_file(str(source), path.path)

    def fetch_file(self, uri: str, into: Path) -> None:
        """Copy what lies at `uri` into the file `into`. Raises `EvidenceMismatch` when nothing does."""
        path = self._path(uri)
        if not self.has(uri):
            raise EvidenceMismatch(f"{uri} is missing", expected=f"a file below {self.root}")
        with asking(path):
            path.fs.get_file(path.path, str(into))

    def has(self, uri: str) -> bool:
        """Whether something lies at `uri` now; others write here too. Raises `OSError` if nobody can be asked."""
        return lies(self._path(uri))

    def size_bytes(self, uri: str) -> int:
        """The size of what lies at `uri`. Raises `EvidenceMismatch` when nothing does."""
        if not self.has(uri):
            raise EvidenceMismatch(f"{uri} is missing", expected=f"a file below {self.root}")
        with asking(path := self._path(uri)):
            return int(path.stat().st_size)

    def read(self, uri: str) -> bytes:
        """The bytes at `uri`, whatever they are. Raises `OSError`."""
        with asking(path := self._path(uri)):
            return bytes(path.read_bytes())

    def latest(self, asset: str, partition: str) -> EvidenceFile | None:
        """The newest file of that partition, or None when there is none yet."""
        uri = f"{_folder(asset, partition)}/{_POINTER}"
        if not self.has(uri):
            return None
        path = self._path(uri)
        try:
            pointer = Pointer.model_validate_json(self.read(uri))
        except ValidationError as error:
            raise EvidenceMismatch(
                f"the pointer {path} is damaged: {error.error_count()} errors, first: {error.errors()[0]['msg']}",
                expected="a pointer written by the evidence store",
                remedy="materialise the partition again",
            ) from error
        return EvidenceFile(self, pointer.uri, pointer.sha256, pointer.dagster_run_id)

    def digest(self, uri: str) -> str | None:
        """The SHA-256 of what lies there now, or None when nothing does."""
        return sha256_bytes(self.read(uri)) if self.has(uri) else None

    def read_bytes(self, uri: str, sha256: str) -> bytes:
        """The bytes at `uri`. Raises `EvidenceMismatch` when they are missing or not `sha256`."""
        if not self.has(uri):
            raise EvidenceMismatch(
                f"the evidence file {uri} is missing", expected=f"a file below {self.root}", remedy="benchmark again"
            )
        content = self.read(uri)
        if (found := sha256_bytes(content)) != sha256:
            raise EvidenceMismatch(
                f"the evidence file {uri} was changed: it is {found}",
                expected=sha256,
                remedy="restore it from a backup, or benchmark again",
            )
        return content

    def _path(self, uri: str) -> UPath:
        parts = PurePosixPath(uri).parts
        if not parts or PurePosixPath(uri).is_absolute() or ".." in parts:
            raise BadInput(f"the evidence URI {uri!r:.200} leaves the store", expected="a path relative to its root")
        return self.root / uri

    def _write(self, uri: str, content: bytes) -> None:
        path = self._path(uri)
        if is_here(path):
            write_atomic(Path(path.path), content)
            return
        with asking(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _folder(asset: str, partition: str) -> str:
    parts = (check_key(part, "partition") for part in partition.split("|"))
    return "/".join((check_key(asset, "asset"), *parts))


def check_files(store: EvidenceStore, manifest: EvidenceManifest) -> None:
    """Raise `EvidenceMismatch`, naming every difference, unless every pinned file is as it was.

    For where there is no event log; `resources.evidence_log.check_manifest` asks that too.
    """
    manifest.check(
        Found(
            model_version=pin.model_version,
            tier=pin.tier,
            file_sha256=store.digest(pin.uri),
            logged_sha256=pin.sha256,
        )
        for pin in manifest.pins()
    )
