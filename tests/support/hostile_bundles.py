"""One table of hostile bundles: each row is something done to a whole bundle that every door must refuse.

What belongs here: the rows, as named changes of a bundle's folder. What does not: the doors, and what each says
(`tests/edge_deploy/test_every_door.py`).

A row without a seal is damage, or somebody's tampering from outside. A row with one (`resealed`) is what a forger can
do who has no key: manifest and sums agree with what was changed.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from milton_assets.edge.manifest import (
    DECISION_FILE,
    EVIDENCE_FILE,
    MANIFEST_FILE,
    MODEL_SIGNATURE_FILE,
    REGISTRY_ENTRY_FILE,
    SSH_SIGNATURE_FILE,
    SUMS_FILE,
    BundleManifest,
    FileEntry,
    TensorTable,
    release_digest,
)
from milton_assets.edge.relative_path import MAX_DEPTH
from milton_assets.edge.release.dsse import MAX_MODEL_SIGNATURE_BYTES
from milton_assets.edge.release.sshsig import MAX_SIGNATURE_BYTES
from milton_assets.vocabulary.digest import sha256_bytes, sha256_json
from tests.support.edge_bundles import TOKENS_FILE, WEIGHTS_FILE, gguf_around, read_manifest, write_manifest

NESTED = 1500
"""Folders within folders: more than Python would recurse into."""


@dataclass(frozen=True)
class Row:
    """One hostile bundle: what was done, how, and the kinds of problems that verifying it must name."""

    name: str
    do: Callable[[Path], object]
    kinds: frozenset[str]

    @property
    def id(self) -> str:
        """The row's name, for parametrised tests."""
        return self.name.replace(" ", "-")


def flip(path: Path, at: int = -5) -> None:
    """Change one bit."""
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0x10
    path.write_bytes(raw)


def swap(path: Path, make: Callable[[Path], object]) -> None:
    """Put something else in the file's place."""
    path.unlink()
    make(path)


def unix_socket(path: Path) -> None:
    """A socket, bound from its own folder since a whole path is limited to 108 bytes."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def nest(folder: Path, depth: int = NESTED) -> None:
    """That many folders, each in the one before: deeper than a path may be long."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=handle)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)


def move_behind_link(bundle: Path) -> None:
    """The model's folder lies elsewhere, behind a link."""
    elsewhere = bundle.parent / f"{bundle.name}.elsewhere"
    (bundle / "model").rename(elsewhere)
    (bundle / "model").symlink_to(elsewhere)


def resealed(bundle: Path, contents: dict[str, bytes] | None = None, **changes: Any) -> None:
    """Write these files and manifest fields, and make manifest and sums agree with them."""
    manifest = read_manifest(bundle)
    files = {entry.path: entry for entry in manifest.files}
    for path, raw in (contents or {}).items():
        (bundle / path).parent.mkdir(parents=True, exist_ok=True)
        (bundle / path).write_bytes(raw)
        files[path] = FileEntry(path=path, size_bytes=len(raw), sha256=sha256_bytes(raw))
    listed = tuple(files[path] for path in sorted(files))
    changes = {"files": listed, "release_digest": release_digest(listed)} | changes
    write_manifest(bundle, manifest.model_copy(update=changes))


def document(name: str, change: Callable[[dict[str, Any]], object], *, named: str | None = None) -> Callable[..., None]:
    """Change a document and reseal; with `named`, that field of the manifest names the changed one's digest too."""

    def do(bundle: Path) -> None:
        content = json.loads((bundle / name).read_bytes())
        change(content)
        raw = json.dumps(content).encode()
        digest = sha256_json(content["raw"] if name == REGISTRY_ENTRY_FILE else content)
        resealed(bundle, {name: raw}, **({named: digest} if named else {}))

    return do


def manifest_text(change: Callable[[str], str]) -> Callable[[Path], None]:
    """Change the manifest's text, and the sums with it."""

    def do(bundle: Path) -> None:
        path = bundle / MANIFEST_FILE
        path.write_text(change(path.read_text()))
        sums = [line for line in (bundle / SUMS_FILE).read_text().splitlines() if not line.endswith(MANIFEST_FILE)]
        sums.append(f"{sha256_bytes(path.read_bytes())}  {MANIFEST_FILE}")
        (bundle / SUMS_FILE).write_text("\n".join(sorted(sums, key=lambda line: line[66:])) + "\n")

    return do


def other_weights(bundle: Path) -> None:
    """Weights that nobody measured, resealed, under the digest of those that were."""
    resealed(bundle, {WEIGHTS_FILE: gguf_around(b"something else entirely")})


def no_gguf_under_another_name(bundle: Path) -> None:
    """The artefact is called `model.bin`, and is none."""
    raw = b"\x80\x04a pickle that runs code when it is loaded"
    (bundle / WEIGHTS_FILE).unlink()
    manifest = read_manifest(bundle)
    kept = [entry for entry in manifest.files if entry.path != WEIGHTS_FILE]
    (bundle / "model" / "model.bin").write_bytes(raw)
    digest = sha256_bytes(raw)
    files = (*kept, FileEntry(path="model/model.bin", size_bytes=len(raw), sha256=digest))
    write_manifest(
        bundle,
        manifest.model_copy(
            update={
                "files": files,
                "release_digest": release_digest(files),
                "primary": "model/model.bin",
                "artefact_sha256": digest,
            }
        ),
    )


def gguf_called_text(bundle: Path) -> None:
    """A file that a loader would take for a GGUF, whatever it is called, and whose header lies."""
    resealed(bundle, {TOKENS_FILE: b"GGUF" + b"\xff" * 60})


def false_header(bundle: Path) -> None:
    """Weights with a header that does not parse, under their right digests."""
    size = (bundle / WEIGHTS_FILE).stat().st_size
    resealed(bundle, {WEIGHTS_FILE: b"GGUF" + b"\xff" * (size - 4)})


def false_table(bundle: Path) -> None:
    """A tensor table for a file without tensors."""
    resealed(bundle, tensor_tables=(TensorTable(path=TOKENS_FILE, tensors=(), rest_blake3="0" * 64),))


def false_figure(manifest: BundleManifest) -> dict[str, float]:
    """The figures, one of them better than it was decided on."""
    return {**manifest.figures, "cove_pass_rate": 0.999}


def _with_a_false_digest(sums: str) -> str:
    """The sums with another first digit in the first line."""
    return ("1" if sums.startswith("0") else "0") + sums[1:]


def _row(name: str, do: Callable[[Path], object], *kinds: str) -> Row:
    return Row(name, do, frozenset(kinds))


ROWS = (
    # The files
    _row("a flipped bit in the weights", lambda b: flip(b / WEIGHTS_FILE), "digest"),
    _row("a zeroed file", lambda b: (b / TOKENS_FILE).write_bytes(bytes(6)), "digest"),
    _row("a truncated file", lambda b: os.truncate(b / WEIGHTS_FILE, 100), "size"),
    _row("a longer file", lambda b: (b / TOKENS_FILE).write_bytes(b"a b c\n!"), "size"),
    _row("a missing file", lambda b: (b / TOKENS_FILE).unlink(), "missing"),
    _row("a missing document", lambda b: (b / DECISION_FILE).unlink(), "missing", "chain"),
    _row("a missing folder", lambda b: shutil.rmtree(b / "model"), "missing"),
    _row("a link for a file", lambda b: swap(b / TOKENS_FILE, lambda p: p.symlink_to("/etc/passwd")), "symlink"),
    _row("a link for a folder", move_behind_link, "symlink"),
    _row("a pipe for a file", lambda b: swap(b / TOKENS_FILE, os.mkfifo), "special"),
    _row("a socket for a file", lambda b: swap(b / TOKENS_FILE, unix_socket), "special"),
    _row("a folder for a file", lambda b: swap(b / TOKENS_FILE, Path.mkdir), "special"),
    # What does not belong there
    _row("an extra file", lambda b: (b / "model/surprise.so").write_bytes(b"\x7fELF"), "extra"),
    _row("an extra link", lambda b: (b / "link").symlink_to(DECISION_FILE), "symlink"),
    _row("an extra pipe", lambda b: os.mkfifo(b / "pipe"), "extra"),
    _row("an empty folder", lambda b: (b / "empty").mkdir(), "extra"),
    _row("folders nested without end", nest, "malformed"),
    _row("a file nested too deep for a manifest", lambda b: nest(b, MAX_DEPTH + 1), "malformed"),
    # What it says of itself
    _row("no manifest", lambda b: (b / MANIFEST_FILE).unlink(), "malformed"),
    _row("a link for the manifest", lambda b: swap(b / MANIFEST_FILE, lambda p: p.symlink_to("/x")), "malformed"),
    _row("a pipe for the manifest", lambda b: swap(b / MANIFEST_FILE, os.mkfifo), "malformed"),
    _row("a manifest of a terabyte", lambda b: os.truncate(b / MANIFEST_FILE, 1 << 40), "malformed"),
    _row("a key twice", manifest_text(lambda text: text.replace("{", '{"counter": 1,', 1)), "malformed"),
    _row("a path that leaves", manifest_text(lambda text: text.replace(TOKENS_FILE, "../x")), "malformed"),
    _row("a path without end", manifest_text(lambda t: t.replace(TOKENS_FILE, "/".join("d" * 34))), "malformed"),
    _row(
        "a counter without end",
        manifest_text(lambda t: t.replace('"counter": 1,', f'"counter": 1{"0" * 4000},')),
        "malformed",
    ),
    _row("a field too many", manifest_text(lambda text: text.replace("{", '{"more": 1,', 1)), "malformed"),
    _row("no sums", lambda b: (b / SUMS_FILE).unlink(), "malformed"),
    _row(
        "sums with a false digest",
        lambda b: (b / SUMS_FILE).write_text(_with_a_false_digest((b / SUMS_FILE).read_text())),
        "digest",
    ),
    _row(
        "sums with a file more",
        lambda b: (b / SUMS_FILE).write_text((b / SUMS_FILE).read_text() + "0" * 64 + "  zzz\n"),
        "malformed",
    ),
    _row(
        "sums with a file less",
        lambda b: (b / SUMS_FILE).write_text("".join((b / SUMS_FILE).read_text().splitlines(True)[1:])),
        "malformed",
    ),
    # Signatures
    _row("a signature of something else", lambda b: (b / SSH_SIGNATURE_FILE).write_bytes(b"nonsense\n"), "signature"),
    _row(
        "an endless signature",
        lambda b: (b / SSH_SIGNATURE_FILE).write_bytes(bytes(MAX_SIGNATURE_BYTES + 1)),
        "signature",
    ),
    _row(
        "noise for a model signature", lambda b: (b / MODEL_SIGNATURE_FILE).write_bytes(os.urandom(4096)), "signature"
    ),
    _row(
        "an endless model signature",
        lambda b: (b / MODEL_SIGNATURE_FILE).write_bytes(bytes(MAX_MODEL_SIGNATURE_BYTES + 1)),
        "signature",
    ),
    # The chain, resealed
    _row("another registry entry", document(REGISTRY_ENTRY_FILE, lambda d: d["raw"].update(added=1)), "chain"),
    _row("another evidence manifest", document(EVIDENCE_FILE, lambda d: d.update(added=1)), "chain"),
    _row("another decision", document(DECISION_FILE, lambda d: d.update(added=1)), "chain"),
    _row(
        "a decision for another model",
        document(DECISION_FILE, lambda d: d.update(winner="v9"), named="decision_sha256"),
        "chain",
    ),
    _row(
        "a decision that rejects",
        document(DECISION_FILE, lambda d: d.update(verdict="reject"), named="decision_sha256"),
        "chain",
    ),
    _row(
        "a decision on other evidence",
        document(DECISION_FILE, lambda d: d.update(manifest_sha256="0" * 64), named="decision_sha256"),
        "chain",
    ),
    _row(
        "evidence of another artefact",
        document(EVIDENCE_FILE, lambda d: d["candidates"][0].update(artefact_sha256="0" * 64), named="evidence_sha256"),
        "chain",
    ),
    _row(
        "an entry with another artefact",
        document(REGISTRY_ENTRY_FILE, lambda d: d["artefacts"][0].update(sha256="0" * 64), named="entry_sha256"),
        "chain",
    ),
    _row("a document of another shape", lambda b: resealed(b, {REGISTRY_ENTRY_FILE: b"[]"}), "chain"),
    _row("a document with a key twice", lambda b: resealed(b, {DECISION_FILE: b'{"run_id": 1, "run_id": 2}'}), "chain"),
    _row("a better figure than was decided on", lambda b: resealed(b, figures=false_figure(read_manifest(b))), "chain"),
    _row(
        "a figure that nobody read", lambda b: resealed(b, figures={**read_manifest(b).figures, "speed": 9.0}), "chain"
    ),
    _row("a false policy name", lambda b: resealed(b, policy_name="strict"), "chain"),
    _row("a false policy digest", lambda b: resealed(b, policy_sha256="0" * 64), "chain"),
    _row("another run", lambda b: resealed(b, run_id="benchmark_20250101_000000"), "chain"),
    _row("weights that nobody measured", other_weights, "chain"),
    _row("a false artefact digest", lambda b: resealed(b, artefact_sha256="0" * 64), "chain"),
    # Weights that must not be loaded, resealed
    _row("a header that does not parse", false_header, "malformed"),
    _row("an artefact that is no GGUF", no_gguf_under_another_name, "malformed"),
    _row("a GGUF by content whose header lies", gguf_called_text, "malformed"),
    _row("a tensor table for no tensors", false_table, "malformed"),
)
