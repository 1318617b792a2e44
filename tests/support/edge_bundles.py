"""Small bundles, made with the manifest's own nouns, for tests that deploy them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from milton_assets.edge.manifest import (
    MANIFEST_FILE,
    SUMS_FILE,
    BundleManifest,
    FileEntry,
    HealthContract,
    Probe,
    Requirements,
    release_digest,
)
from milton_assets.vocabulary.registry import ArtefactKind

MADE_AT = datetime(2026, 1, 11, 14, 25, tzinfo=UTC)
CONTRACT = HealthContract(probes=(Probe(prompt="Say hello."),))


def make_bundle(
    folder: Path,
    version: str,
    *,
    counter: int = 1,
    weights: bytes | None = None,
    health: HealthContract = CONTRACT,
    ram_bytes: int = 0,
    run_id: str = "benchmark_20260111_142500",
    name_suffix: str = "",
    kind: ArtefactKind = ArtefactKind.GGUF,
    weights_file: str = "model/weights.bin",
) -> Path:
    """A whole bundle of `version` in a folder of its own below `folder`; its path.

    Unless real ones are given, the weights are no model, and their suffix keeps them from being read as one.
    """
    name = f"milton_edge_bundle_{version}_20260111_142500{name_suffix}"
    bundle = folder / name
    contents = {
        weights_file: weights if weights is not None else f"weights of {version}\n".encode() * 1000,
        "model/parts/tokens.txt": b"a b c\n",
        "decision.json": b"{}",
        "evidence_manifest.json": b"{}",
    }
    for path, raw in contents.items():
        (bundle / path).parent.mkdir(parents=True, exist_ok=True)
        (bundle / path).write_bytes(raw)
    files = tuple(
        FileEntry(path=path, size_bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
        for path, raw in sorted(contents.items())
    )
    write_manifest(
        bundle,
        BundleManifest(
            name=name,
            model_version=version,
            run_id=run_id,
            created_at=MADE_AT,
            counter=counter,
            release_digest=release_digest(files),
            artefact_kind=kind,
            artefact_sha256="a" * 64,
            primary=weights_file if kind is ArtefactKind.GGUF else "model",
            files=files,
            base_model="a base",
            requirements=Requirements(runtime="llama.cpp", ram_bytes=ram_bytes, disk_bytes=0),
            health=health,
            entry_sha256="b" * 64,
            evidence_sha256="c" * 64,
            decision_sha256="d" * 64,
            policy_name="smoke",
            policy_sha256="e" * 64,
        ),
    )
    return bundle


def write_manifest(bundle: Path, manifest: BundleManifest) -> None:
    """Write `manifest.json` and the `SHA256SUMS` that goes with it."""
    raw = manifest.to_json()
    (bundle / MANIFEST_FILE).write_bytes(raw)
    sums = {entry.path: entry.sha256 for entry in manifest.files} | {MANIFEST_FILE: hashlib.sha256(raw).hexdigest()}
    (bundle / SUMS_FILE).write_text("".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items())))


def read_manifest(bundle: Path) -> BundleManifest:
    """The bundle's manifest."""
    return BundleManifest.model_validate_json((bundle / MANIFEST_FILE).read_bytes())
