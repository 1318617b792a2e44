"""A signature that the `model_signing` package verifies, written and checked without reading the weights again.

What belongs here: that one format. What does not: the SSH signature, on which trust rests.

Format: a Sigstore bundle (v0.3) with a DSSE envelope around an in-toto Statement whose predicate lists every file's
SHA-256; its subject's digest is the SHA-256 over the files' digests in the order of the list. `model_signing`'s own
signer would read and hash everything once more, and brings some forty packages; the digests are known already.
Sources: the OMS specification and `model_signing` 1.1 (`_signing/signing.py`), DSSE v1.0 (protocol.md).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from milton_assets.edge.release.sshsig import PublicKey, SignatureInvalid, public_pem
from milton_assets.vocabulary.digest import canonical_json
from milton_assets.vocabulary.strict_json import parse_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MAX_MODEL_SIGNATURE_BYTES = 12 << 20
"""A statement of as many files as a manifest may list, with paths as long as they may be, takes less."""

_BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def model_signature(name: str, digests: Mapping[str, str], key: ec.EllipticCurvePrivateKey, ignored: str) -> bytes:
    """The file's bytes for a folder `name` with `{path: SHA-256}`; `ignored` is the signature's own path in it."""
    payload = canonical_json(_statement(name, digests, ignored)).encode()
    signature = key.sign(pre_authentication_encoding(payload), ec.ECDSA(hashes.SHA256()))
    bundle = {
        "mediaType": _BUNDLE_TYPE,
        "verificationMaterial": _verification_material(key.public_key()),
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return (json.dumps(bundle, indent=1) + "\n").encode()


def pre_authentication_encoding(payload: bytes) -> bytes:
    """What a DSSE signature covers: type and payload, each with its length."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _statement(name: str, digests: Mapping[str, str], ignored: str) -> dict[str, object]:
    ordered = sorted(digests, key=PurePosixPath)
    root = hashlib.sha256(b"".join(bytes.fromhex(digests[path]) for path in ordered)).hexdigest()
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [ignored],
            },
            "resources": [{"name": path, "algorithm": "sha256", "digest": digests[path]} for path in ordered],
        },
    }


def check_model_signature(
    raw: bytes, name: str, digests: Mapping[str, str], keys: Sequence[PublicKey], ignored: str
) -> None:
    """Check that `raw` is the signature by one of `keys` of a folder `name` with `{path: SHA-256}`, and nothing else.

    `keys` are those behind the SSH signatures, which cover the same files. Raises `SignatureInvalid` with what is
    wrong, `BadInput` for what is no JSON.
    """
    if len(raw) > MAX_MODEL_SIGNATURE_BYTES:
        raise SignatureInvalid(f"it has {len(raw)} bytes", expected=f"at most {MAX_MODEL_SIGNATURE_BYTES}")
    able = [key for key in keys if isinstance(key, ec.EllipticCurvePublicKey)]
    if not able:
        raise SignatureInvalid("no ECDSA key signed the release beside it", expected="one signer for both signatures")
    bundle = parse_json(raw, ignored)
    key = next((key for key in able if _names(bundle, key)), able[0])
    payload, signature = _opened(bundle, key)
    if parse_json(payload, f"the statement in {ignored}") != _statement(name, digests, ignored):
        raise SignatureInvalid("it is a statement about other files than the manifest lists")
    try:
        key.verify(signature, pre_authentication_encoding(payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise SignatureInvalid("it is no signature of its statement by the release's signer") from None


def _names(bundle: Any, key: PublicKey) -> bool:
    return isinstance(bundle, dict) and bundle.get("verificationMaterial") == _verification_material(key)


def _opened(bundle: Any, key: PublicKey) -> tuple[bytes, bytes]:
    """Payload and signature of a Sigstore bundle that has just the fields that `model_signature` writes."""
    try:
        envelope = bundle["dsseEnvelope"]
        (signed,) = envelope["signatures"]
        expected = {
            "mediaType": _BUNDLE_TYPE,
            "verificationMaterial": _verification_material(key),
            "dsseEnvelope": {
                "payload": envelope["payload"],
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": signed["sig"], "keyid": ""}],
            },
        }
        if bundle != expected:
            raise SignatureInvalid("its envelope has other fields, or names another key than the release's signer")
        return base64.b64decode(envelope["payload"], validate=True), base64.b64decode(signed["sig"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise SignatureInvalid(f"it is no DSSE envelope ({type(error).__name__})") from None


def _verification_material(key: PublicKey) -> dict[str, object]:
    return {"publicKey": {"hint": hashlib.sha256(public_pem(key)).hexdigest()}, "tlogEntries": []}
