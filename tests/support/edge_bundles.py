"""Small bundles, made with the manifest's own nouns, for tests that deploy them.

What belongs here: making a whole bundle, whose documents and weights are what its manifest says, so that every door
takes it. What does not: hostile variants (`hostile_bundles`).
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from milton_assets.edge.manifest import (
    DECISION_FILE,
    EVIDENCE_FILE,
    MANIFEST_FILE,
    REGISTRY_ENTRY_FILE,
    SUMS_FILE,
    BundleManifest,
    FileEntry,
    HealthContract,
    Probe,
    Requirements,
    release_digest,
)
from milton_assets.edge.release.chain import winner_figures
from milton_assets.vocabulary.digest import sha256_bytes, sha256_json
from milton_assets.vocabulary.registry import Artefact, ArtefactKind
from tests.support.bundles import decision_of, entry_of, evidence_of
from tests.support.gguf_file import STRING, gguf_bytes, pair, tensor

MADE_AT = datetime(2026, 1, 11, 14, 25, tzinfo=UTC)
CONTRACT = HealthContract(probes=(Probe(prompt="Say hello."),))
WEIGHTS_FILE = "model/weights.gguf"
TOKENS_FILE = "model/parts/tokens.txt"
_I8 = 24


def gguf_around(data: bytes) -> bytes:
    """A GGUF whose one tensor, of a byte an element, holds `data`. No server can load it."""
    return gguf_bytes(
        [pair("general.architecture", STRING, "llama")],
        [tensor("token_embd.weight", (len(data),), _I8, 0)],
        data=data,
    )


def make_bundle(
    folder: Path,
    version: str,
    *,
    counter: int = 1,
    weights: bytes | None = None,
    tokens: bytes = b"a b c\n",
    health: HealthContract = CONTRACT,
    ram_bytes: int = 0,
    least_llama_build: int | None = None,
    run_id: str = "benchmark_20260111_142500",
    policy_name: str = "smoke",
) -> Path:
    """A whole bundle of `version` in a folder of its own below `folder`; its path.

    `weights` are a whole GGUF file, `tokens` any bytes that go with it.
    """
    name = f"milton_edge_bundle_{version}_20260111_142500"
    bundle = folder / name
    raw = weights if weights is not None else gguf_around(f"weights of {version}\n".encode() * 1000)
    artefact = Artefact(
        kind=ArtefactKind.GGUF,
        path=f"/models/{version}.gguf",
        size_bytes=len(raw),
        sha256=sha256_bytes(raw),
        quantization=None,
    )
    entry = entry_of(artefact, version)
    evidence = evidence_of(entry, artefact).model_copy(update={"run_id": run_id, "policy_name": policy_name})
    decision = decision_of(evidence, version)
    contents = {
        WEIGHTS_FILE: raw,
        TOKENS_FILE: tokens,
        REGISTRY_ENTRY_FILE: entry.model_dump_json().encode(),
        EVIDENCE_FILE: evidence.model_dump_json().encode(),
        DECISION_FILE: json.dumps(decision).encode(),
    }
    for path, content in contents.items():
        (bundle / path).parent.mkdir(parents=True, exist_ok=True)
        (bundle / path).write_bytes(content)
    files = tuple(
        FileEntry(path=path, size_bytes=len(content), sha256=sha256_bytes(content))
        for path, content in sorted(contents.items())
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
            artefact_kind=ArtefactKind.GGUF,
            artefact_sha256=artefact.sha256,
            primary=WEIGHTS_FILE,
            files=files,
            base_model=entry.base_model,
            requirements=Requirements(
                runtime="llama.cpp", least_llama_build=least_llama_build, ram_bytes=ram_bytes, disk_bytes=0
            ),
            health=health,
            entry_sha256=entry.entry_sha256,
            evidence_sha256=evidence.digest(),
            decision_sha256=sha256_json(decision),
            policy_name=policy_name,
            policy_sha256=evidence.policy_sha256,
            figures=winner_figures(decision),
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
