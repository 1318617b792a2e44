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
from milton_assets.vocabulary.server import Endpoint, RunningServer
from resources.servers.identity import digest_of, verified_serving


@dataclass
class Recording:
    """A `Launcher` that says it loaded `path`, and remembers whether it was started."""

    path: str | None = None
    launched: bool = False
    artefact_there: Path | None = None
    started: bool = False

    @contextmanager
    def serve(self, artefact: Path, model: str) -> Iterator[RunningServer]:
        self.started = True
        told = ServerFingerprint(name="toy", model_path=self.path, launched_by_us=self.launched)
        yield RunningServer(Endpoint("http://127.0.0.1:1", model), told, self.artefact_there)


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


def proof(server: Recording, weights: Path) -> str | None:
    with verified_serving(server, weights, "v1", sha256_of(weights)) as served:
        return served.fingerprint.identity


def test_the_fingerprint_says_how_the_artefact_was_recognised(weights: Path) -> None:
    blob = f"sha256-{sha256_of(weights)}"
    assert proof(Recording(str(weights), launched=True), weights) == "sha256_before_and_after"
    assert proof(Recording(f"/root/.ollama/models/blobs/{blob}"), weights) == "sha256_told"
    assert proof(Recording(f"@sha256:{sha256_of(weights)}"), weights) == "sha256_told"
    assert proof(Recording(str(weights)), weights) == "path"
    assert proof(Recording("models/model.gguf"), weights) == "path_name"
    assert proof(Recording("../elsewhere/model.gguf"), weights) == "path_name"
    assert proof(Recording("my-org/my-model"), weights) == "name_only"
    assert proof(Recording(), weights) == "name_only"


@pytest.mark.parametrize(
    "path",
    [
        *(f"/blobs/sha256-{'0' * 64}", f"@sha256:{'0' * 64}"),
        *("models/other.gguf", "other.GGUF", "./model", r"..\other.gguf", "my-org/model-Q8_0.gguf"),
    ],
)
def test_a_server_that_tells_of_something_else_is_refused(path: str, weights: Path) -> None:
    with pytest.raises(ServerFailed, match="has loaded"):
        proof(Recording(path), weights)


def test_a_path_that_the_server_sees_elsewhere_is_compared_with_what_it_was_said_to_be(weights: Path) -> None:
    there = Path("/mnt/models/v1.gguf")
    assert proof(Recording(str(there), artefact_there=there), weights) == "path"
    assert proof(Recording("models/v1.gguf", artefact_there=there), weights) == "path_name"
    with pytest.raises(ServerFailed, match=r"has loaded.*/mnt/models/v1.gguf.*MILTON_SERVER_PATH"):
        proof(Recording(str(weights), artefact_there=there), weights)


def test_a_folders_digest_is_that_of_its_listing(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "sub" / "a.txt").write_text("a")
    expected = {"config.json": sha256_of(tmp_path / "config.json"), "sub/a.txt": sha256_of(tmp_path / "sub" / "a.txt")}
    assert digest_of(tmp_path) == sha256_listing(expected)


def test_no_artefact_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no artefact at"):
        digest_of(tmp_path / "nothing")
