"""A signature that the `model_signing` package verifies, written without reading the weights again.

What belongs here: that one format. What does not: the SSH signature, which is the one our devices check.

Format: a Sigstore bundle (v0.3) with a DSSE envelope around an in-toto Statement whose predicate lists every file's
SHA-256; its subject's digest is the SHA-256 over the files' digests in the order of the list. `model_signing`'s own
signer would read and hash everything once more, and brings some forty packages; the digests are known already.
Sources: the OMS specification and `model_signing` 1.1 (`_signing/signing.py`), DSSE v1.0 (protocol.md).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePosixPath

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from milton_assets.edge.bundle.keys import public_pem
from milton_assets.vocabulary.digest import canonical_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def model_signature(name: str, digests: Mapping[str, str], key: ec.EllipticCurvePrivateKey, ignored: str) -> bytes:
    """The file's bytes for a folder `name` with `{path: SHA-256}`; `ignored` is the signature's own path in it."""
    payload = canonical_json(_statement(name, digests, ignored)).encode()
    signature = key.sign(pre_authentication_encoding(payload), ec.ECDSA(hashes.SHA256()))
    bundle = {
        "mediaType": _BUNDLE_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": hashlib.sha256(public_pem(key.public_key())).hexdigest()},
            "tlogEntries": [],
        },
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
