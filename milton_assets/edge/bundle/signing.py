"""Signing a bundle, offline.

What belongs here: what is signed and where the signatures lie. What does not: formats (`edge.release.sshsig`, `dsse`),
key files (`keys`), checking signatures (`edge.release`) and whom to trust (`edge.deployment.admission`).

The SSH signature covers `SHA256SUMS`, which covers every file and the manifest. The `model_signing` signature lists
the same files, `SHA256SUMS` and the SSH signature, for others' tools; trust rests on the SSH signature.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from milton_assets.edge.bundle.keys import KeyFiles, load_private_key
from milton_assets.edge.manifest import MODEL_SIGNATURE_FILE, SSH_SIGNATURE_FILE, SUMS_FILE
from milton_assets.edge.release import Folder, read_document, read_documents, read_manifest
from milton_assets.edge.release.dsse import model_signature
from milton_assets.edge.release.report import damaged
from milton_assets.edge.release.signature import NAMESPACE
from milton_assets.edge.release.sshsig import MAX_SIGNATURE_BYTES, MAX_SIGNATURES, PrivateKey, fingerprint, sign
from milton_assets.edge.release.sums import parse_sums
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import write_atomic


def signer(key: PrivateKey) -> Callable[[Path], None]:
    """What `Making(sign=…)` takes: signs a staged folder with `key`."""

    def sign_folder(staged: Path) -> None:
        sums = read_document(staged, SUMS_FILE)
        armoured = sign(sums, key, NAMESPACE)
        (staged / SSH_SIGNATURE_FILE).write_bytes(armoured)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            digests = parse_sums(sums) | {
                SUMS_FILE: sha256_bytes(sums),
                SSH_SIGNATURE_FILE: sha256_bytes(armoured),
            }
            name = read_manifest(staged).name
            (staged / MODEL_SIGNATURE_FILE).write_bytes(model_signature(name, digests, key, MODEL_SIGNATURE_FILE))

    return sign_folder


def add_signature(bundle: Path, key: PrivateKey) -> tuple[str, ...]:
    """Add the signature of `key` to those that the bundle bears; the fingerprints of all its signers then.

    The `model_signing` signature is made anew by `key`, since it covers the others; an Ed25519 key leaves none.
    Whatever interrupts, what is there holds. Raises `BadInput` when the key signed it already, `ReleaseDamaged` when
    the bundle's documents or signatures do not hold.
    """
    with Folder(bundle) as folder:
        documents = read_documents(folder)
    problems = [problem for problem in documents.problems() if problem.path != MODEL_SIGNATURE_FILE]
    if problems:
        raise damaged(bundle, problems)
    if (own := fingerprint(key.public_key())) in documents.fingerprints():
        raise BadInput(f"{bundle} is signed by {own} already", expected="a signature a key")
    sums = documents.unlisted[SUMS_FILE]
    armoured = documents.unlisted.get(SSH_SIGNATURE_FILE, b"") + sign(sums, key, NAMESPACE)
    if len(armoured) > MAX_SIGNATURE_BYTES or len(documents.signers()) >= MAX_SIGNATURES:
        raise BadInput(f"{bundle} bears {len(documents.signers())} signatures", expected=f"at most {MAX_SIGNATURES}")
    (bundle / MODEL_SIGNATURE_FILE).unlink(missing_ok=True)
    write_atomic(bundle / SSH_SIGNATURE_FILE, armoured)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        digests = parse_sums(sums) | {SUMS_FILE: sha256_bytes(sums), SSH_SIGNATURE_FILE: sha256_bytes(armoured)}
        raw = model_signature(documents.manifest.name, digests, key, MODEL_SIGNATURE_FILE)
        write_atomic(bundle / MODEL_SIGNATURE_FILE, raw)
    return tuple(sorted({*documents.fingerprints(), own}))


def default_signer(keys: Path) -> Callable[[Path], None] | None:
    """A signer with the key in the folder `keys`, or None when `milton keys init` was never run there.

    Raises `BadInput` when there is a key that cannot be used: a bundle is not silently left unsigned.
    """
    private = KeyFiles(keys).private
    return signer(load_private_key(private)) if private.exists() else None
