"""The bundle's manifest: what a release holds, what it needs, how its health is judged and why it was chosen.

What belongs here: the manifest's nouns, the paths it may name, and parsing its JSON as hostile input. What does not:
files, signatures and devices; those are in `edge.bundle` and `edge.deployment`.

A bundle is a directory. `manifest.json` lists every other file of it but `SHA256SUMS` and the signatures;
`SHA256SUMS` lists the same files and `manifest.json`; a signature covers `SHA256SUMS`. So one signature reaches
every byte, and nothing has to hold its own digest.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from milton_assets.edge.relative_path import BadPath, RelativePath
from milton_assets.vocabulary.artefact_files import part_names
from milton_assets.vocabulary.digest import Sha256, sha256_json
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import RunId, Slug
from milton_assets.vocabulary.registry import ArtefactKind
from milton_assets.vocabulary.server import ServingSettings
from milton_assets.vocabulary.strict_json import parse_json

SCHEMA_VERSION: Final = 2
BUNDLE_PREFIX = "milton_edge_bundle_"

MANIFEST_FILE = "manifest.json"
SUMS_FILE = "SHA256SUMS"
SSH_SIGNATURE_FILE = "SHA256SUMS.sig"
MODEL_SIGNATURE_FILE = "model.sig"
SIGNATURE_FILES = frozenset({SSH_SIGNATURE_FILE, MODEL_SIGNATURE_FILE})
RESERVED_FILES = frozenset({MANIFEST_FILE, SUMS_FILE}) | SIGNATURE_FILES
"""Files of a bundle that its manifest does not list."""

MODEL_DIR = "model"
REGISTRY_ENTRY_FILE = "registry_entry.json"
SUMMARY_FILE = "benchmark_summary.json"
EVIDENCE_FILE = "evidence_manifest.json"
DECISION_FILE = "decision.json"
SBOM_FILE = "sbom.cdx.json"
ATTESTATIONS_DIR = "attestations"

MAX_MANIFEST_BYTES = 32 << 20
MAX_FILES = 10_000
MAX_TENSORS = 100_000
MAX_COUNTER = 1 << 53
"""What every reader of JSON can tell from its neighbours."""

_NAME = re.compile(BUNDLE_PREFIX + r"(?P<version>.+)_(?P<timestamp>\d{8}_\d{6})(-[1-9]\d*)?")


Blake3 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A lower-case hexadecimal BLAKE3 of 256 bits."""


def _folded(path: str) -> str:
    """What a case-insensitive, compatibility-normalising file system would make of `path`."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


def check_no_collision(paths: Sequence[str]) -> None:
    """Raise `BadPath` when two paths are one on some file system, or one is a folder of another."""
    folded = Counter(_folded(path) for path in paths)
    if twice := [path for path in paths if folded[_folded(path)] > 1]:
        raise BadPath(
            f"paths that are one on some file system: {sorted(twice)[:4]!r:.400}",
            expected="paths that stay apart whatever the case and Unicode form",
        )
    folders = {_folded(str(parent)) for path in paths for parent in PurePosixPath(path).parents}
    if both := [path for path in paths if _folded(path) in folders]:
        raise BadPath(f"the path {both[0]!r:.200} is both a file and a folder", expected="one of the two")


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Noun):
    """One regular file of the bundle."""

    path: RelativePath
    size_bytes: int = Field(ge=0)
    sha256: Sha256


class TensorEntry(_Noun):
    """One tensor's bytes in its file. `offset_bytes` counts from the start of the file; `shape` as the file has it.

    Tensor digests are BLAKE3: they find damage and steer deltas, at a third of a second SHA-256's cost. Whether a
    file is right is decided by its SHA-256 alone (docs/adr/0061).
    """

    name: str = Field(min_length=1, max_length=512)
    dtype: str = Field(min_length=1, max_length=32)
    shape: tuple[Annotated[int, Field(ge=0)], ...] = Field(max_length=8)
    offset_bytes: int = Field(ge=0)
    size_bytes: int = Field(ge=0)
    blake3: Blake3


class TensorTable(_Noun):
    """The tensors of one weights file, in the order of their offsets, not overlapping.

    `rest_blake3` is the digest of every byte that belongs to no tensor (header, metadata, padding), in file order:
    with it, each byte of the file is under exactly one digest besides the file's own.
    """

    path: RelativePath
    tensors: tuple[TensorEntry, ...] = Field(max_length=MAX_TENSORS)
    rest_blake3: Blake3

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        end = 0
        for tensor in self.tensors:
            if tensor.offset_bytes < end:
                raise ValueError(f"tensor {tensor.name!r:.100} overlaps the one before it, or is out of order")
            end = tensor.offset_bytes + tensor.size_bytes
        if len({tensor.name for tensor in self.tensors}) != len(self.tensors):
            raise ValueError("a tensor's name appears twice")
        return self


class Probe(_Noun):
    """One question the deployed model must answer: a single user message, greedy, seed 0.

    `answer_sha256` is the digest of the expected answer's UTF-8 text; None asks only that there is an answer.
    """

    prompt: str = Field(min_length=1, max_length=10_000)
    max_tokens: int = Field(default=32, ge=1, le=4096)
    answer_sha256: Sha256 | None = None


class HealthContract(_Noun):
    """What a device holds the model against before and after it becomes current.

    `served_with` is what it was measured with, and so what a device serves it with to compare; None leaves that to the
    device.
    """

    probes: tuple[Probe, ...] = Field(min_length=1, max_length=64)
    min_output_tokens_per_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_load_seconds: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    served_with: ServingSettings | None = None


DEFAULT_HEALTH = HealthContract(probes=(Probe(prompt="Name the capital of France in one short sentence."),))


class Requirements(_Noun):
    """The least a device must have: a runtime that reads the format, free RAM and free disk.

    `runtime` says in words what can load it; `least_llama_build` is the oldest build of llama.cpp that was shown to
    serve it (`vocabulary.llama_build`), None where no counted build was.
    """

    runtime: str = Field(min_length=1, max_length=100)
    least_llama_build: int | None = Field(default=None, ge=1)
    ram_bytes: int = Field(ge=0)
    disk_bytes: int = Field(ge=0)


def release_digest(files: Iterable[FileEntry]) -> str:
    """The release's name: SHA-256 of the canonical JSON of (path, size, SHA-256) of every file, sorted by path."""
    return sha256_json(sorted([entry.path, entry.size_bytes, entry.sha256] for entry in files))


class BundleManifest(_Noun):
    """`manifest.json`. Times are aware; sizes are bytes.

    `counter` grows with every bundle made for the same edge, so that an older one is recognised as a replay.
    `primary` is the artefact's file (GGUF) or folder (`hf-distilled`). `artefact_sha256` is the registry's digest of
    the artefact. `figures` are the candidate's headline metrics by name, as decided on.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    name: str
    model_version: Slug
    run_id: RunId
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    counter: int = Field(ge=1, le=MAX_COUNTER)
    release_digest: Sha256
    previous_release: Sha256 | None = None

    artefact_kind: ArtefactKind
    artefact_sha256: Sha256
    primary: RelativePath
    files: tuple[FileEntry, ...] = Field(min_length=1, max_length=MAX_FILES)
    tensor_tables: tuple[TensorTable, ...] = Field(default=(), max_length=MAX_FILES)

    base_model: str
    licence: str | None = None
    quantization: str | None = None
    chat_template_sha256: Sha256 | None = None
    requirements: Requirements
    health: HealthContract

    entry_sha256: Sha256
    evidence_sha256: Sha256
    decision_sha256: Sha256
    policy_name: str
    policy_sha256: Sha256
    figures: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        paths = [entry.path for entry in self.files]
        check_no_collision([*paths, *RESERVED_FILES])
        by_path = {entry.path: entry for entry in self.files}
        match = _NAME.fullmatch(self.name)
        if match is None or match["version"] != self.model_version:
            raise ValueError(f"the name {self.name!r:.200} is not {BUNDLE_PREFIX}<version>_<YYYYMMDD_HHMMSS>")
        if release_digest(self.files) != self.release_digest:
            raise ValueError("release_digest is not the digest of the file list")
        if not self.primary.startswith(f"{MODEL_DIR}/") and self.primary != MODEL_DIR:
            raise ValueError(f"the primary artefact {self.primary!r:.200} is not below {MODEL_DIR}/")
        is_file = self.primary in by_path
        is_folder = any(path.startswith(f"{self.primary}/") for path in paths)
        if not (is_file if self.artefact_kind is ArtefactKind.GGUF else is_folder):
            raise ValueError(f"the primary artefact {self.primary!r:.200} is not among the files")
        for table in self.tensor_tables:
            _check_table(table, by_path)
        if sum(len(table.tensors) for table in self.tensor_tables) > MAX_TENSORS:
            raise ValueError(f"more than {MAX_TENSORS} tensors")
        if self.expires_at is not None and self.expires_at <= self.created_at:
            raise ValueError("expires_at is not after created_at")
        return self

    @property
    def payload_bytes(self) -> int:
        """Bytes of all listed files."""
        return sum(entry.size_bytes for entry in self.files)

    def file(self, path: str) -> FileEntry:
        """The entry of that path. Raises `BadInput` when the manifest does not list it."""
        for entry in self.files:
            if entry.path == path:
                return entry
        raise BadInput(f"the manifest of {self.name} lists no file {path!r:.200}", expected="a listed file")

    def model_files(self) -> tuple[FileEntry, ...]:
        """The artefact's files: a GGUF's parts (mostly one), the folder's for `hf-distilled`; those that are listed.

        Raises `BadInput` when the primary is a later part of a split GGUF.
        """
        if self.artefact_kind is ArtefactKind.GGUF:
            primary = PurePosixPath(self.primary)
            parts = {str(primary.with_name(name)) for name in part_names(primary.name)}
            return tuple(entry for entry in self.files if entry.path in parts)
        return tuple(entry for entry in self.files if entry.path.startswith(f"{self.primary}/"))

    def to_json(self) -> bytes:
        """The bytes of `manifest.json`."""
        return (self.model_dump_json(indent=1) + "\n").encode()


def _check_table(table: TensorTable, by_path: dict[str, FileEntry]) -> None:
    entry = by_path.get(table.path)
    if entry is None:
        raise ValueError(f"a tensor table for {table.path!r:.200}, which is not among the files")
    if table.tensors and table.tensors[-1].offset_bytes + table.tensors[-1].size_bytes > entry.size_bytes:
        raise ValueError(f"the tensors of {table.path!r:.200} reach beyond its end")


def parse_manifest(raw: bytes) -> BundleManifest:
    """Read `manifest.json`'s bytes as hostile input. Raises `BadInput` naming the first few things that are wrong."""
    if len(raw) > MAX_MANIFEST_BYTES:
        raise BadInput(f"{MANIFEST_FILE} has {len(raw)} bytes", expected=f"at most {MAX_MANIFEST_BYTES}")
    data = parse_json(raw, MANIFEST_FILE, expected="a manifest made by `milton bundle create`")
    if not isinstance(data, dict):
        raise BadInput(f"{MANIFEST_FILE} is a JSON {type(data).__name__}", expected="an object")
    if data.get("schema_version") != SCHEMA_VERSION:
        raise BadInput(
            f"{MANIFEST_FILE} has schema_version {data.get('schema_version')!r:.50}",
            expected=str(SCHEMA_VERSION),
            remedy="use the milton release that made the bundle, or make the bundle again",
        )
    try:
        return BundleManifest.model_validate_json(raw, strict=True)
    except ValidationError as error:
        raise BadInput(
            f"{MANIFEST_FILE} does not hold: {_first_errors(error)}",
            expected="a manifest made by `milton bundle create`",
            remedy="make the bundle again",
        ) from None


def _first_errors(error: ValidationError, most: int = 3) -> str:
    details = error.errors(include_url=False, include_input=False, include_context=False)
    said = [f"{'.'.join(map(str, d['loc'])) or 'manifest'}: {d['msg']:.300}" for d in details[:most]]
    if len(details) > most:
        said.append(f"and {len(details) - most} more")
    return "; ".join(said)
