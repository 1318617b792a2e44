"""What a server's address and an API key may look like, and what an error may tell of them."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.vocabulary.address import server_root
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.secrets import check_api_key, redact
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.tls import trusting
from resources.api_keys import key_from


@pytest.mark.parametrize(
    ("written", "root"),
    [
        ("http://box:8000", "http://box:8000"),
        (" http://box:8000/ ", "http://box:8000"),
        ("http://box:8000/v1/", "http://box:8000"),
        ("http://box:8000/v1/chat/completions", "http://box:8000"),
        ("https://box/llm/v1", "https://box/llm"),
        ("https://box/llm/", "https://box/llm"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_an_address_is_reduced_to_the_servers_root(written: str, root: str) -> None:
    assert server_root(written) == root


@pytest.mark.parametrize(
    "written",
    [
        "",
        "box:8000",
        "ftp://box",
        "http://",
        "http://box:port",
        "http://box:99999",
        "http://box:0",
        "http://[::1",
        "http://box:8000 /v1",
        "http://box\n:8000",
        "http://box/v1?key=1",
        "http://box/#v1",
    ],
    ids=repr,
)
def test_what_is_no_servers_address_is_refused_with_an_example(written: str) -> None:
    with pytest.raises(BadInput, match=r"is no server address.*expected: http://HOST:PORT"):
        server_root(written)


@pytest.mark.parametrize(
    "written", ["http://user:hunter2@box:8000", "http://user:hunter2@[::1", "http://u:hunter2@h:x"]
)
def test_credentials_in_an_address_are_refused_and_not_shown(written: str) -> None:
    with pytest.raises(BadInput) as caught:
        Endpoint(written, "v1")
    assert "hunter2" not in str(caught.value)


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        root = server_root(text)
    except BadInput:
        return
    assert server_root(root) == root


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ("sk-1\nsk-2", "a line break"),
        ("sk 1", "white space"),
        ("“sk-1”", "not ASCII"),
        ("sk\x07", "a control character"),
    ],
    ids=["line break", "space", "typographic quote", "bell"],
)
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(
    odd: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOX_KEY", odd)
    with pytest.raises(BadInput, match="BOX_KEY") as caught:
        key_from("BOX_KEY")
    assert why in str(caught.value)
    assert odd not in str(caught.value)
    assert "sk" not in str(caught.value)


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(BadInput, match="empty"):
        check_api_key("", "BOX_KEY")


def test_every_secret_in_a_text_is_redacted() -> None:
    assert redact("a b a", "a", None, "") == "*** b ***"


def test_a_file_without_certificates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for path in (tmp_path / "ca.pem", tmp_path / "absent.pem"):
        with pytest.raises(BadInput, match="gives no certificate"):
            trusting(path)


def test_the_systems_certificates_are_trusted_without_a_file() -> None:
    assert trusting(None).verify_mode is ssl.CERT_REQUIRED
