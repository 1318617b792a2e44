"""Signing offline: what ssh-keygen and model_signing accept, and what is refused with its reason."""

from __future__ import annotations

import base64
import os
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.edge.bundle import Bundle, default_signer, signer
from milton_assets.edge.bundle.keys import MAX_KEY_BYTES, KeyFiles, init_keys, load_private_key, load_public_key
from milton_assets.edge.release import SignatureInvalid, signed_by, verify_release
from milton_assets.edge.release.signature import NAMESPACE
from milton_assets.edge.release.sshsig import (
    MAX_SIGNATURE_BYTES,
    PrivateKey,
    fingerprint,
    parse_public_key,
    public_key_of,
    sign,
    verify,
    wire_key,
)
from milton_assets.vocabulary.errors import BadInput
from tests.support.bundles import Ingredients, ingredients

KEYS: list[Callable[[], PrivateKey]] = [
    lambda: ec.generate_private_key(ec.SECP256R1()),
    ed25519.Ed25519PrivateKey.generate,
]
BOTH_TYPES = pytest.mark.parametrize("make", KEYS, ids=["ecdsa", "ed25519"])
SSH_KEYGEN = shutil.which("ssh-keygen")
NEEDS_SSH_KEYGEN = pytest.mark.skipif(SSH_KEYGEN is None, reason="ssh-keygen is not installed")


@pytest.fixture
def keys(tmp_path: Path) -> KeyFiles:
    return init_keys(tmp_path / "keys")


@pytest.fixture
def model(tmp_path: Path) -> Ingredients:
    return ingredients(tmp_path)


@pytest.fixture
def signed(model: Ingredients, keys: KeyFiles, tmp_path: Path) -> Bundle:
    return model.bundle(tmp_path / "bundles", sign=default_signer(keys.folder))


# Keys


def test_the_private_key_is_its_owners_alone_and_the_public_ones_agree(keys: KeyFiles) -> None:
    assert stat.S_IMODE(keys.private.stat().st_mode) == 0o600
    name = fingerprint(load_private_key(keys.private).public_key())
    assert fingerprint(load_public_key(keys.public)) == name
    pem = serialization.load_pem_public_key(keys.public_pem.read_bytes())
    assert isinstance(pem, ec.EllipticCurvePublicKey)
    assert fingerprint(pem) == name


def test_a_key_is_never_overwritten(keys: KeyFiles) -> None:
    before = keys.private.read_bytes()
    with pytest.raises(BadInput, match="already"):
        init_keys(keys.folder)
    assert keys.private.read_bytes() == before


def test_a_key_that_others_can_read_is_refused_with_the_remedy(keys: KeyFiles) -> None:
    keys.private.chmod(0o640)
    with pytest.raises(BadInput, match=r"mode 640.*chmod 600"):
        load_private_key(keys.private)


def private_file(tmp_path: Path, raw: bytes) -> Path:
    path = tmp_path / "key"
    path.write_bytes(raw)
    path.chmod(0o600)
    return path


def pem(key: rsa.RSAPrivateKey | PrivateKey, protection: serialization.KeySerializationEncryption) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no private key"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "no private key"),
        (b"x" * (MAX_KEY_BYTES + 1), "larger than"),
        (pem(KEYS[0](), serialization.BestAvailableEncryption(b"word")), "passphrase"),
        (pem(rsa.generate_private_key(65537, 2048), serialization.NoEncryption()), "RSA"),
        (pem(ec.generate_private_key(ec.SECP384R1()), serialization.NoEncryption()), "P-256"),
    ],
    ids=["empty", "garbage", "too large", "encrypted", "RSA", "P-384"],
)
def test_a_file_that_is_no_usable_key_is_refused(tmp_path: Path, raw: bytes, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        load_private_key(private_file(tmp_path, raw))


def test_a_key_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="milton keys init"):
        load_private_key(tmp_path / "none")


@pytest.mark.parametrize("line", ["", "ssh-rsa AAAA", "ecdsa-sha2-nistp256 !!!!", "nonsense"])
def test_a_line_that_is_no_public_key_is_refused(line: str) -> None:
    with pytest.raises(BadInput, match="no public key"):
        parse_public_key(line)


def test_without_a_key_there_is_no_signer_and_with_a_broken_one_an_error(tmp_path: Path, keys: KeyFiles) -> None:
    assert default_signer(tmp_path / "none") is None
    keys.private.write_bytes(b"garbage")
    with pytest.raises(BadInput):
        default_signer(keys.folder)


# The SSH signature


@BOTH_TYPES
def test_a_signature_names_the_key_that_made_it(make: Callable[[], PrivateKey]) -> None:
    key = make()
    found = verify(sign(b"message", key, NAMESPACE), b"message", NAMESPACE)
    assert fingerprint(found) == fingerprint(key.public_key())
    assert wire_key(public_key_of(wire_key(found))) == wire_key(found)


@BOTH_TYPES
@pytest.mark.parametrize(
    ("message", "namespace", "why"),
    [(b"messag3", NAMESPACE, "not a signature of these bytes"), (b"message", "git", "made for")],
)
def test_a_signature_of_other_bytes_or_for_another_purpose_does_not_hold(
    make: Callable[[], PrivateKey], message: bytes, namespace: str, why: str
) -> None:
    with pytest.raises(SignatureInvalid, match=why):
        verify(sign(b"message", make(), NAMESPACE), message, namespace)


@BOTH_TYPES
@NEEDS_SSH_KEYGEN
def test_ssh_keygen_verifies_our_signature(make: Callable[[], PrivateKey], tmp_path: Path) -> None:
    key = make()
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    (tmp_path / "allowed").write_text(f"milton {line}\n")
    (tmp_path / "sig").write_bytes(sign(b"message", key, NAMESPACE))

    def checked(message: bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-I", "milton", "-f", "allowed", "-s", "sig"],
            cwd=tmp_path,
            input=message,
            capture_output=True,
            check=False,
        )

    assert checked(b"message").returncode == 0, checked(b"message").stderr
    assert checked(b"messag3").returncode != 0


@pytest.mark.parametrize("kind", ["ecdsa", "ed25519"])
@NEEDS_SSH_KEYGEN
def test_we_verify_ssh_keygens_signature(kind: str, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", tmp_path / "key"], check=True)
    (tmp_path / "message").write_bytes(b"message")
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", tmp_path / "key", tmp_path / "message"],
        check=True,
        capture_output=True,
    )
    found = verify((tmp_path / "message.sig").read_bytes(), b"message", NAMESPACE)
    assert fingerprint(found) == fingerprint(load_public_key(tmp_path / "key.pub"))
    assert fingerprint(load_private_key(tmp_path / "key").public_key()) == fingerprint(found)
    listed = subprocess.run(
        ["ssh-keygen", "-l", "-f", tmp_path / "key.pub"], capture_output=True, text=True, check=True
    )
    assert fingerprint(found) in listed.stdout


def armoured(blob: bytes) -> bytes:
    return b"-----BEGIN SSH SIGNATURE-----\n" + base64.b64encode(blob) + b"\n-----END SSH SIGNATURE-----\n"


def string(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


ED = ed25519.Ed25519PrivateKey.generate()
HEAD = b"SSHSIG" + struct.pack(">I", 1)
KEY = string(wire_key(ED.public_key()))
PURPOSE = string(NAMESPACE.encode()) + string(b"")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no armoured"),
        (b"x" * (MAX_SIGNATURE_BYTES + 1), "at most"),
        (armoured(b"SSHSIG")[:-10], "no armoured"),
        (armoured(b"").replace(b"\n\n", b"\nA\n"), "base64"),
        (armoured(b"SSHS"), "cut short"),
        (armoured(b"SSHSIG" + struct.pack(">I", 2)), "version 1"),
        (armoured(HEAD + b"\xff\xff\xff\xff"), "cut short"),
        (armoured(HEAD + string(string(b"ssh-rsa") + b"x")), "type b'ssh-rsa'"),
        (armoured(HEAD + string(string(b"ssh-ed25519") + b"x")), "does not parse"),
        (armoured(HEAD + KEY + PURPOSE + string(b"md5")), "hash is b'md5'"),
        (armoured(HEAD + KEY + PURPOSE + string(b"sha512") + string(b"")), "cut short"),
        (armoured(HEAD + KEY + PURPOSE + string(b"sha512") + string(b"") + b"more"), "follow its end"),
        (
            armoured(HEAD + KEY + PURPOSE + string(b"sha512") + string(string(b"ecdsa-sha2-nistp256") + string(b""))),
            "signature is of the type",
        ),
        (
            armoured(HEAD + KEY + PURPOSE + string(b"sha512") + string(string(b"ssh-ed25519") + string(b"x" * 64))),
            "not a signature",
        ),
    ],
    ids=[
        "empty",
        "too large",
        "no end",
        "no base64",
        "cut in the head",
        "version 2",
        "cut in the key",
        "RSA key",
        "key of no form",
        "md5",
        "cut before the signature",
        "more behind it",
        "ECDSA signature",
        "signature of no form",
    ],
)
def test_a_malformed_signature_is_refused_with_its_own_message(raw: bytes, why: str) -> None:
    with pytest.raises(SignatureInvalid, match=why):
        verify(raw, b"message", NAMESPACE)


@given(st.binary(max_size=300))
def test_no_blob_makes_it_fail_in_another_way(blob: bytes) -> None:
    for raw in (blob, armoured(blob), armoured(HEAD + blob), armoured(HEAD + KEY + PURPOSE + blob)):
        with pytest.raises(SignatureInvalid):
            verify(raw, b"message", NAMESPACE)


# A signed bundle


@NEEDS_SSH_KEYGEN
def test_ssh_keygen_and_sha256sum_check_a_bundle_without_us(signed: Bundle, keys: KeyFiles) -> None:
    line = (
        "sha256sum --quiet --strict -c SHA256SUMS && ssh-keygen -Y verify -n milton-bundle -I milton "
        f"-f '{keys.allowed_signers}' -s SHA256SUMS.sig < SHA256SUMS"
    )
    done = subprocess.run(["sh", "-c", line], cwd=signed.path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Good" in done.stdout


def test_model_signing_verifies_a_bundle_and_notices_a_change(signed: Bundle, keys: KeyFiles) -> None:
    pytest.importorskip("model_signing")

    def checked() -> subprocess.CompletedProcess[str]:
        arguments = [
            str(signed.path),
            "--signature",
            str(signed.path / "model.sig"),
            "--public_key",
            str(keys.public_pem),
        ]
        return subprocess.run(
            [sys.executable, "-m", "model_signing", "verify", "key", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    assert checked().returncode == 0, checked().stderr
    (signed.path / "decision.json").write_text("{}")
    assert checked().returncode != 0


def test_verify_names_the_signer(signed: Bundle, keys: KeyFiles) -> None:
    report = verify_release(signed.path)
    assert report.ok
    expected = (fingerprint(load_public_key(keys.public)),)
    assert (report.signers, report.to_json()["signers"]) == (expected, list(expected))


def test_an_ed25519_key_signs_for_ssh_alone(model: Ingredients, tmp_path: Path) -> None:
    bundle = model.bundle(tmp_path / "bundles", sign=signer(ed25519.Ed25519PrivateKey.generate()))
    assert verify_release(bundle.path).signers
    assert not (bundle.path / "model.sig").exists()


def test_an_unsigned_bundle_holds_but_is_said_to_be_unsigned(model: Ingredients, tmp_path: Path) -> None:
    bundle = model.bundle(tmp_path / "bundles")
    assert signed_by(bundle.path) == ()
    report = verify_release(bundle.path)
    assert report.ok
    assert report.signers == ()
    assert "it is not signed" in report.notes


def test_with_trusted_keys_an_unsigned_or_foreign_bundle_is_a_problem(
    model: Ingredients, signed: Bundle, keys: KeyFiles, tmp_path: Path
) -> None:
    ours = {fingerprint(load_public_key(keys.public))}
    assert verify_release(signed.path, trusted=ours).ok
    unsigned = model.bundle(tmp_path / "bundles")
    (problem,) = verify_release(unsigned.path, trusted=ours).problems
    assert (problem.kind.value, problem.detail) == ("signature", "is missing: it is not signed")
    (problem,) = verify_release(signed.path, trusted=set()).problems
    assert "not trusted" in problem.detail


def test_a_signature_does_not_hold_once_the_list_has_changed(signed: Bundle) -> None:
    sums = signed.path / "SHA256SUMS"
    sums.write_bytes(sums.read_bytes()[::-1])
    with pytest.raises(SignatureInvalid, match="not a signature of these bytes"):
        signed_by(signed.path)


@pytest.mark.parametrize("damage", ["garbage", "link", "huge"])
def test_a_signature_file_that_does_not_hold_is_a_problem(signed: Bundle, damage: str) -> None:
    path = signed.path / "SHA256SUMS.sig"
    if damage == "link":
        path.rename(signed.path.parent / "sig")
        path.symlink_to(signed.path.parent / "sig")
    elif damage == "huge":
        os.truncate(path, 1 << 30)
    else:
        path.write_bytes(b"garbage")
    problems = {(p.kind.value, p.path) for p in verify_release(signed.path).problems}
    assert ("signature", "SHA256SUMS.sig") in problems
