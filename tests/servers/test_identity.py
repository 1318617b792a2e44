"""The model under test is shown to be the registered one, before and after."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from milton_assets.vocabulary.digest import sha256_listing
from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.server import Endpoint, Served
from resources.servers.identity import digest_of, verified_serving


@dataclass
class Recording:
    """A `Serves` that says it loaded `path`, and remembers whether it was started."""

    path: str | None = None
    started: bool = False

    @contextmanager
    def serve(self, artefact: Path, model: str) -> Iterator[Served]:
        self.started = True
        yield Served(Endpoint("http://127.0.0.1:1", model), ServerFingerprint(name="toy", model_path=self.path))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF and weights")
    return path


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_registered_file_is_served(weights: Path) -> None:
    with verified_serving(Recording(str(weights)), weights, "v1", sha256_of(weights)) as served:
        assert served.endpoint.model == "v1"


def test_another_file_than_the_registered_one_is_never_started(weights: Path) -> None:
    server = Recording()
    with (
        pytest.raises(ServerFailed, match=f"{'0' * 64}.*register the changed file") as caught,
        verified_serving(server, weights, "v1", "0" * 64),
    ):
        pytest.fail("it must not begin")
    assert sha256_of(weights) in str(caught.value)
    assert not server.started


def test_a_file_that_changes_while_it_is_served_is_an_error_afterwards(weights: Path) -> None:
    registered = sha256_of(weights)
    with (
        pytest.raises(ServerFailed, match="after it was served"),
        verified_serving(Recording(), weights, "v1", registered),
    ):
        weights.write_bytes(b"GGUF and other weights")


def test_the_blocks_own_error_passes(weights: Path) -> None:
    with pytest.raises(KeyError), verified_serving(Recording(), weights, "v1", sha256_of(weights)):
        raise KeyError("the block's own")


def test_without_an_expected_digest_only_the_path_is_looked_at(weights: Path) -> None:
    with verified_serving(Recording(str(weights)), weights, "v1", None):
        weights.write_bytes(b"changed")
    with (
        pytest.raises(ServerFailed, match="/elsewhere"),
        verified_serving(Recording("/elsewhere"), weights, "v1", None),
    ):
        pytest.fail("it must not begin")


def test_a_folders_digest_is_that_of_its_listing(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "sub" / "a.txt").write_text("a")
    expected = {"config.json": sha256_of(tmp_path / "config.json"), "sub/a.txt": sha256_of(tmp_path / "sub" / "a.txt")}
    assert digest_of(tmp_path) == sha256_listing(expected)


def test_no_artefact_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no artefact at"):
        digest_of(tmp_path / "nothing")
