"""A server whose certificate nobody signed is trusted when it is named, and refused when it is not."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from milton_assets.tiers.inference import InferencePlan, measure_inference
from milton_assets.vocabulary.chat import Message, Sampling
from milton_assets.vocabulary.errors import ServerFailed
from resources.registries.mlflow_api import MlflowApi, RegistryUnreadable
from resources.servers.attached import AttachedServer
from resources.servers.client import OpenAIChatModel
from tests.support.scripted_server import ScriptedServer, answer, scripted_server


def write_certificate(folder: Path, address: str) -> tuple[Path, Path]:
    """A certificate that vouches for itself, for that address, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server of ours")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "certificate.pem", folder / "key.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return public, private


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1")


def context_of(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def server(certificate: tuple[Path, Path]) -> Iterator[ScriptedServer]:
    pages = {"/api/2.0/mlflow/registered-models/get?name=m": {"registered_model": {"name": "m", "aliases": []}}}
    with scripted_server(answer("one ", "two"), pages=pages, tls=context_of(certificate)) as served:
        yield served


def test_a_server_with_a_certificate_of_its_own_is_trusted_when_it_is_named(
    server: ScriptedServer, certificate: tuple[Path, Path]
) -> None:
    with AttachedServer(server.base_url, ca_file=certificate[0]).attach("scripted") as served:
        with OpenAIChatModel(served.endpoint) as model:
            assert model.complete([Message("user", "hi")], Sampling()).text == "one two"
        result = measure_inference(served.endpoint, InferencePlan.smoke())
    assert result.metrics


def test_a_server_with_a_certificate_that_nobody_named_is_refused(server: ScriptedServer) -> None:
    with pytest.raises(ServerFailed, match="CERTIFICATE_VERIFY_FAILED"), AttachedServer(server.base_url).attach("x"):
        pass


def test_a_certificate_for_another_address_is_refused(tmp_path: Path) -> None:
    other = write_certificate(tmp_path, "192.0.2.1")
    with (
        scripted_server(answer("one"), tls=context_of(other)) as server,
        pytest.raises(ServerFailed, match="CERTIFICATE_VERIFY_FAILED"),
        AttachedServer(server.base_url, ca_file=other[0]).attach("scripted"),
    ):
        pass


def test_the_command_line_takes_the_file(server: ScriptedServer, certificate: tuple[Path, Path]) -> None:
    program = "from milton_assets.cli.app import main; main()"
    words = [sys.executable, "-c", program, "bench", "inference", "--base-url", server.base_url, "--model", "scripted"]
    words += ["--requests", "3", "--max-tokens", "8", "--json"]
    trusted = subprocess.run(
        [*words, "--ca-file", str(certificate[0])], capture_output=True, text=True, timeout=120, check=False
    )
    assert trusted.returncode == 0, trusted.stderr
    assert json.loads(trusted.stdout)["success_rate"] == 1.0
    refused = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_registry_with_a_certificate_of_its_own_is_read_when_it_is_named(
    server: ScriptedServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RegistryUnreadable, match="CERTIFICATE_VERIFY_FAILED"):
        MlflowApi(server.base_url, "m").aliases()
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate[0]))
    assert MlflowApi(server.base_url, "m").aliases() == {}
