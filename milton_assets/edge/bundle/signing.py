"""Signing a bundle, offline, and finding out who did.

What belongs here: what is signed and where the signatures lie. What does not: formats (`sshsig`, `dsse`), key files
(`keys`) and whom to trust (`admission`).

The SSH signature covers `SHA256SUMS`, which covers every file and the manifest. The `model_signing` signature lists
the same files, `SHA256SUMS` and the SSH signature; it is for others' tools, and nothing here rests on it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from milton_assets.edge.bundle.dsse import model_signature
from milton_assets.edge.bundle.folder import Folder
from milton_assets.edge.bundle.keys import NAMESPACE, KeyFiles, load_private_key
from milton_assets.edge.bundle.read import read_document, read_manifest
from milton_assets.edge.bundle.sshsig import MAX_SIGNATURE_BYTES, PrivateKey, PublicKey, sign, verify
from milton_assets.edge.bundle.sums import parse_sums
from milton_assets.edge.manifest import MODEL_SIGNATURE_FILE, SSH_SIGNATURE_FILE, SUMS_FILE
from milton_assets.vocabulary.digest import sha256_bytes


def signer(key: PrivateKey) -> Callable[[Path], None]:
    """What `create_bundle(sign=…)` takes: signs a staged folder with `key`."""

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


def default_signer(keys: Path) -> Callable[[Path], None] | None:
    """A signer with the key in the folder `keys`, or None when `milton keys init` was never run there.

    Raises `BadInput` when there is a key that cannot be used: a bundle is not silently left unsigned.
    """
    private = KeyFiles(keys).private
    return signer(load_private_key(private)) if private.exists() else None


def signed_by(bundle: Path | Folder) -> PublicKey | None:
    """The key whose SSH signature of the bundle's `SHA256SUMS` holds; None when it is not signed.

    Raises `SignatureInvalid` when there is a signature that does not hold, `BadInput` when it cannot be read. Says
    nothing of whether the files agree with `SHA256SUMS`; `verify_bundle` does.
    """
    if isinstance(bundle, Path):
        with Folder(bundle) as folder:
            return signed_by(folder)
    try:
        armoured = bundle.read(SSH_SIGNATURE_FILE, MAX_SIGNATURE_BYTES)
    except FileNotFoundError:
        return None
    return verify(armoured, read_document(bundle, SUMS_FILE), NAMESPACE)
