"""The keys that bundles are signed with, as files.

What belongs here: making a key pair, reading the files of private and public keys. What does not: formats
(`edge.release.sshsig`), signing (`signing`) and who is trusted (`edge.deployment.admission`).

`milton keys init` makes one ECDSA P-256 pair: it is the one type that both `ssh-keygen -Y verify` and the
`model_signing` package take, so one key has one fingerprint everywhere. An Ed25519 key of one's own signs too, but
without a `model_signing` signature.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from milton_assets.edge.release.signature import NAMESPACE
from milton_assets.edge.release.sshsig import (
    PrivateKey,
    PublicKey,
    checked_public,
    fingerprint,
    parse_public_key,
    public_line,
    public_pem,
)
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import fsync_dir

PRINCIPAL = "milton"
PRIVATE_FILE = "signing_key"
PUBLIC_FILE = "signing_key.pub"
PUBLIC_PEM_FILE = "signing_key.pem"
ALLOWED_SIGNERS_FILE = "allowed_signers"

MAX_KEY_BYTES = 64 << 10


@dataclass(frozen=True)
class KeyFiles:
    """A folder with a key pair: private, public (OpenSSH, PEM), and the list `ssh-keygen -Y verify` takes."""

    folder: Path

    @property
    def private(self) -> Path:
        """The private key, readable by its owner alone."""
        return self.folder / PRIVATE_FILE

    @property
    def public(self) -> Path:
        """The public key as one OpenSSH line; what a device policy lists."""
        return self.folder / PUBLIC_FILE

    @property
    def public_pem(self) -> Path:
        """The public key as PEM; what `model_signing verify key` takes."""
        return self.folder / PUBLIC_PEM_FILE

    @property
    def allowed_signers(self) -> Path:
        """What `ssh-keygen -Y verify -f` takes."""
        return self.folder / ALLOWED_SIGNERS_FILE


def init_keys(folder: Path) -> KeyFiles:
    """Make a key pair in `folder`. Raises `BadInput` when there is one: a key is never overwritten."""
    files = KeyFiles(folder)
    present = [path.name for path in (files.private, files.public, files.public_pem) if os.path.lexists(path)]
    if present:
        raise BadInput(
            f"{folder} holds {', '.join(present)} already",
            expected="no key yet",
            remedy="keep using it (`milton keys show`), or move it away first",
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    line = public_line(key.public_key())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    _write_new(files.private, private, 0o600)
    _write_new(files.public, f"{line}\n".encode(), 0o644)
    _write_new(files.public_pem, public_pem(key.public_key()), 0o644)
    _write_new(files.allowed_signers, f'{PRINCIPAL} namespaces="{NAMESPACE}" {line}\n'.encode(), 0o644)
    fsync_dir(folder)
    return files


def load_private_key(path: Path) -> PrivateKey:
    """The private key in an OpenSSH or PEM file. Raises `BadInput` when it cannot be used, or others can read it."""
    raw = _read(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise BadInput(f"the private key {path} has the mode {mode:o}", expected="600", remedy=f"chmod 600 {path}")
    load = serialization.load_ssh_private_key if b"OPENSSH" in raw[:64] else serialization.load_pem_private_key
    try:
        key = load(raw, None)
    except TypeError:
        raise BadInput(
            f"the private key {path} is protected by a passphrase",
            expected="an unprotected key that only its owner can read",
            remedy="`milton keys init` makes one",
        ) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInput(f"{path} is no private key: {error!s:.200}", remedy="`milton keys init` makes one") from None
    if isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        checked_public(key.public_key())
        return key
    raise BadInput(f"{path} holds a key of the type {type(key).__name__}", expected="ECDSA on P-256, or Ed25519")


def load_public_key(path: Path) -> PublicKey:
    """The public key in a file of one OpenSSH line. Raises `BadInput`."""
    return parse_public_key(_read(path).decode("utf-8", errors="replace"))


def described(path: Path) -> dict[str, str]:
    """A public key file, for people and machines."""
    key = load_public_key(path)
    return {"fingerprint": fingerprint(key), "public_key": public_line(key), "path": str(path)}


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            raw = stream.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise BadInput(
            f"the key {path} cannot be read ({error.strerror})", remedy="`milton keys init` makes one"
        ) from None
    if len(raw) > MAX_KEY_BYTES:
        raise BadInput(f"{path} is larger than {MAX_KEY_BYTES} bytes", expected="a key")
    return raw


def _write_new(path: Path, raw: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as stream:
        stream.write(raw)
        stream.flush()
        os.fsync(stream.fileno())
