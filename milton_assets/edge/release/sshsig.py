"""SSH signatures over files, as `ssh-keygen -Y sign` and `-Y verify` write and read them.

What belongs here: the SSHSIG format, and the two key types it is written with here as OpenSSH and PEM write them. What
does not: key files (`edge.bundle.keys`) and what is signed (`signature`).

Format: PROTOCOL.sshsig in the OpenSSH sources; keys and signatures in it as in RFC 4253, RFC 5656 and RFC 8709. It is
written out here, in the cryptography library's primitives, so that a device can check a bundle without OpenSSH.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from milton_assets.vocabulary.errors import BadInput, MiltonError

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

MAX_SIGNATURE_BYTES = 8192
"""Of everything armoured that lies in one file."""
MAX_SIGNATURES = 16

_MAGIC = b"SSHSIG"
_VERSION = 1
_ECDSA = b"ecdsa-sha2-nistp256"
_ED25519 = b"ssh-ed25519"
_HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_ARMOUR = re.compile(
    rb"\s*-----BEGIN SSH SIGNATURE-----\s+(?P<body>[A-Za-z0-9+/=\s]+?)\s+-----END SSH SIGNATURE-----\s*"
)
_BLOCK = re.compile(rb"-----BEGIN SSH SIGNATURE-----.*?-----END SSH SIGNATURE-----\s*", re.DOTALL)
_LINE_LENGTH = 70


class SignatureInvalid(MiltonError):
    """A signature that does not hold: malformed, for another purpose, or not of these bytes."""


def sign(message: bytes, key: PrivateKey, namespace: str) -> bytes:
    """The armoured SSH signature of `message` for `namespace`."""
    algorithm = b"sha512"
    signed = _signed_data(namespace.encode(), algorithm, message)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = _string(_ED25519) + _string(key.sign(signed))
    else:
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
        signature = _string(_ECDSA) + _string(_mpint(r) + _mpint(s))
    blob = (
        _MAGIC
        + struct.pack(">I", _VERSION)
        + _string(wire_key(key.public_key()))
        + _string(namespace.encode())
        + _string(b"")
        + _string(algorithm)
        + _string(signature)
    )
    text = base64.b64encode(blob)
    lines = [text[at : at + _LINE_LENGTH] for at in range(0, len(text), _LINE_LENGTH)]
    return b"\n".join([b"-----BEGIN SSH SIGNATURE-----", *lines, b"-----END SSH SIGNATURE-----", b""])


def verify(armoured: bytes, message: bytes, namespace: str) -> PublicKey:
    """The key that signed `message` for `namespace`. Whether it is trusted is the caller's question.

    Raises `SignatureInvalid` with what is wrong.
    """
    fields = _Reader(_unarmoured(armoured))
    if fields.take(len(_MAGIC)) != _MAGIC or fields.take(4) != struct.pack(">I", _VERSION):
        raise SignatureInvalid("it is no SSH signature of version 1")
    key = public_key_of(fields.string())
    found = fields.string()
    if found != namespace.encode():
        raise SignatureInvalid(f"it was made for {found!r:.100}", expected=repr(namespace))
    fields.string()  # reserved
    algorithm = fields.string()
    if algorithm not in _HASHES:
        raise SignatureInvalid(f"its hash is {algorithm!r:.50}", expected="sha256 or sha512")
    signature = _Reader(fields.string())
    fields.done()
    try:
        _check(key, signature, _signed_data(namespace.encode(), algorithm, message))
    except InvalidSignature:
        raise SignatureInvalid("it is not a signature of these bytes") from None
    return key


def verify_all(armoured: bytes, message: bytes, namespace: str) -> tuple[PublicKey, ...]:
    """The keys behind the signatures of `message` that follow one another in `armoured`, in their order.

    All of them hold, and each is by another key. `ssh-keygen -Y verify` reads the first. Raises `SignatureInvalid`.
    """
    if len(armoured) > MAX_SIGNATURE_BYTES:
        raise SignatureInvalid(f"it has {len(armoured)} bytes", expected=f"at most {MAX_SIGNATURE_BYTES}")
    blocks = _BLOCK.findall(armoured.lstrip())
    if b"".join(blocks) != armoured.lstrip() or not 1 <= len(blocks) <= MAX_SIGNATURES:
        raise SignatureInvalid(
            "it is no armoured SSH signature", expected=f"one to {MAX_SIGNATURES}: -----BEGIN SSH SIGNATURE----- …"
        )
    keys = tuple(verify(block, message, namespace) for block in blocks)
    if len({fingerprint(key) for key in keys}) != len(keys):
        raise SignatureInvalid("a key signed it twice", expected="a signature a key")
    return keys


def wire_key(key: PublicKey) -> bytes:
    """The key as SSH writes it in binary."""
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


def public_key_of(wire: bytes) -> PublicKey:
    """The inverse of `wire_key`. Raises `SignatureInvalid` for other types of keys."""
    kind = _Reader(wire).string()
    if kind not in {_ECDSA, _ED25519}:
        raise SignatureInvalid(f"its key is of the type {kind!r:.50}", expected="ecdsa-sha2-nistp256 or ssh-ed25519")
    try:
        key = serialization.load_ssh_public_key(kind + b" " + base64.b64encode(wire))
    except (ValueError, NotImplementedError) as error:  # the latter for a point that is written compressed
        raise SignatureInvalid(f"its key does not parse: {error!s:.100}") from None
    return checked_public(key)


def checked_public(key: object) -> PublicKey:
    """`key`, when it is of a type that is used here. Raises `BadInput` otherwise."""
    p256 = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    if isinstance(key, ed25519.Ed25519PublicKey) or (p256 and isinstance(key, ec.EllipticCurvePublicKey)):
        return key
    raise BadInput(f"a key of the type {type(key).__name__}", expected="ECDSA on P-256, or Ed25519")


def parse_public_key(line: str) -> PublicKey:
    """The public key in an OpenSSH line.

    Raises `BadInput`, also for a certificate: whether it has expired is judged by nothing here.
    """
    expected = "a line like that of signing_key.pub: 'ecdsa-sha2-nistp256 AAAA…' or 'ssh-ed25519 AAAA…'"
    kind = line.strip().split(" ", 1)[0].encode(errors="replace")
    if b"-cert-" in kind:
        raise BadInput(
            f"{line!r:.120} is a certificate, and no public key",
            expected=expected,
            remedy="list the key that it certifies; revoke one by taking its line out",
        )
    try:
        return checked_public(serialization.load_ssh_public_key(line.strip().encode()))
    except (ValueError, NotImplementedError, UnsupportedAlgorithm) as error:
        raise BadInput(f"{line!r:.120} is no public key: {error!s:.100}", expected=expected) from None


def public_line(key: PublicKey, comment: str = "milton") -> str:
    """The key as one OpenSSH line, e.g. `ecdsa-sha2-nistp256 AAAA… milton`."""
    raw = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{raw.decode()} {comment}"


def public_pem(key: PublicKey) -> bytes:
    """The key as PEM (SubjectPublicKeyInfo)."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(key: PublicKey) -> str:
    """The key's name, as `ssh-keygen -l` prints it: `SHA256:…`."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(wire_key(key)).digest()).rstrip(b"=").decode()


def _check(key: PublicKey, signature: _Reader, signed: bytes) -> None:
    kind, raw = signature.string(), signature.string()
    signature.done()
    if isinstance(key, ed25519.Ed25519PublicKey):
        _require_kind(kind, _ED25519)
        key.verify(raw, signed)
        return
    _require_kind(kind, _ECDSA)
    numbers = _Reader(raw)
    r, s = (int.from_bytes(numbers.string()) for _ in range(2))
    numbers.done()
    key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))


def _require_kind(found: bytes, expected: bytes) -> None:
    if found != expected:
        raise SignatureInvalid(f"the signature is of the type {found!r:.50}", expected=expected.decode())


def _signed_data(namespace: bytes, algorithm: bytes, message: bytes) -> bytes:
    digest = _HASHES[algorithm](message).digest()
    return _MAGIC + _string(namespace) + _string(b"") + _string(algorithm) + _string(digest)


def _unarmoured(armoured: bytes) -> bytes:
    if len(armoured) > MAX_SIGNATURE_BYTES:
        raise SignatureInvalid(f"it has {len(armoured)} bytes", expected=f"at most {MAX_SIGNATURE_BYTES}")
    match = _ARMOUR.fullmatch(armoured)
    if match is None:
        raise SignatureInvalid("it is no armoured SSH signature", expected="-----BEGIN SSH SIGNATURE----- …")
    try:
        return base64.b64decode(b"".join(match["body"].split()), validate=True)
    except binascii.Error:
        raise SignatureInvalid("its base64 does not decode") from None


def _string(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


def _mpint(value: int) -> bytes:
    return _string(value.to_bytes(value.bit_length() // 8 + 1))


class _Reader:
    """Reads SSH's length-prefixed fields, never beyond the end."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def take(self, count: int) -> bytes:
        if count > len(self._raw):
            raise SignatureInvalid("it is cut short")
        taken, self._raw = self._raw[:count], self._raw[count:]
        return taken

    def string(self) -> bytes:
        return self.take(struct.unpack(">I", self.take(4))[0])

    def done(self) -> None:
        if self._raw:
            raise SignatureInvalid(f"{len(self._raw)} bytes follow its end")
