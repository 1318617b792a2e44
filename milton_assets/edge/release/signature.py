"""Who signed a release.

What belongs here: what the SSH signatures of a release cover, and the keys behind them. What does not: formats
(`sshsig`, `dsse`), making signatures (`edge.bundle.signing`) and whom to trust (`edge.deployment.admission`).

A signature covers `SHA256SUMS`, which covers every file and the manifest. `SHA256SUMS.sig` holds one or several, one
after the other, each by a key of its own.
"""

from __future__ import annotations

from pathlib import Path

from milton_assets.edge.manifest import SSH_SIGNATURE_FILE, SUMS_FILE
from milton_assets.edge.release.folder import Folder
from milton_assets.edge.release.sshsig import MAX_SIGNATURE_BYTES, PublicKey, SignatureInvalid, verify_all
from milton_assets.edge.release.sums import MAX_SUMS_BYTES

__all__ = ["NAMESPACE", "SignatureInvalid", "keys_that_signed", "signed_by"]

NAMESPACE = "milton-bundle"
"""What the SSH signature of a release is made for: a key's signature for anything else counts for nothing."""


def keys_that_signed(armoured: bytes, sums: bytes) -> tuple[PublicKey, ...]:
    """The keys behind the signatures `armoured` of the bytes of `SHA256SUMS`. Raises `SignatureInvalid`."""
    return verify_all(armoured, sums, NAMESPACE)


def signed_by(release: Path | Folder) -> tuple[PublicKey, ...]:
    """The keys whose SSH signatures of the release's `SHA256SUMS` hold; none when it is not signed.

    Raises `SignatureInvalid` when there is a signature that does not hold, `BadInput` when it cannot be read. Says
    nothing of whether the files agree with `SHA256SUMS`; `verify_release` does.
    """
    if isinstance(release, Path):
        with Folder(release) as folder:
            return signed_by(folder)
    try:
        armoured = release.read(SSH_SIGNATURE_FILE, MAX_SIGNATURE_BYTES)
    except FileNotFoundError:
        return ()
    return keys_that_signed(armoured, release.read(SUMS_FILE, MAX_SUMS_BYTES))
