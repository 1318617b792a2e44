"""A server that is kept over several blocks: started once, replaced when asked for another, never used dead."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import ServerFailed
from milton_assets.vocabulary.server import Endpoint, RunningServer
from resources.servers.identity import digest_of
from resources.servers.kept import KeptServer
from resources.servers.probe import probe
from resources.servers.process import Command, listening
from tests.support import toy_server


@dataclass(frozen=True)
class ToyLauncher:
    """Launches the toy server; its process id is in what the fingerprint calls the build."""

    label: str = "a"

    @contextmanager
    def serve(self, artefact: Path, model: str) -> Iterator[RunningServer]:
        def command(port: int) -> Command:
            argv = (sys.executable, toy_server.__file__, "--port", str(port), "--served-model-name", model)
            return Command("toy", argv, {})

        with listening(command, start_deadline_s=30) as server:
            fingerprint = probe(server.base_url, model).fingerprint(launched_by_us=True)
            pid = httpx.get(f"{server.base_url}/pid").json()
            yield RunningServer(Endpoint(server.base_url, model), fingerprint.model_copy(update={"build": str(pid)}))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    return path


def pid_of(served: RunningServer) -> int:
    return int(served.fingerprint.build or 0)


def alive(served: RunningServer) -> bool:
    try:
        return httpx.get(f"{served.endpoint.base_url}/health").status_code == 200
    except httpx.ConnectError:
        return False


def test_it_is_started_once_and_ends_with_the_holder(weights: Path) -> None:
    with KeptServer() as held:
        with held.serve(ToyLauncher(), weights, "v1", sha256_file(weights)) as first:
            pass
        with held.serve(ToyLauncher(), weights, "v1", sha256_file(weights)) as second:
            assert alive(second)
        assert pid_of(first) == pid_of(second)
    assert not alive(second)


@pytest.mark.parametrize("other", ["model", "launcher", "artefact"])
def test_another_one_replaces_it(other: str, weights: Path) -> None:
    with KeptServer() as held:
        with held.serve(ToyLauncher(), weights, "v1", sha256_file(weights)) as first:
            pass
        if other == "artefact":
            weights.write_bytes(b"GGUF of another model")
            with pytest.raises(ServerFailed, match="after it was served"):
                held.close()
        launcher = ToyLauncher("b" if other == "launcher" else "a")
        with held.serve(launcher, weights, "v2" if other == "model" else "v1", sha256_file(weights)) as second:
            assert not alive(first)
            assert alive(second)


def test_a_server_that_died_in_the_block_is_said_with_its_last_lines_and_replaced(weights: Path) -> None:
    with KeptServer() as held:
        with (
            pytest.raises(ServerFailed, match=r"ended by signal 9 while it was in use[\s\S]*toy server starting"),
            held.serve(ToyLauncher(), weights, "v1", sha256_file(weights)) as first,
        ):
            os.kill(pid_of(first), signal.SIGKILL)
        with held.serve(ToyLauncher(), weights, "v1", sha256_file(weights)) as second:
            assert alive(second)


def test_the_blocks_own_error_tells_of_the_death(weights: Path) -> None:
    with (
        KeptServer() as held,
        pytest.raises(KeyError) as caught,
        held.serve(ToyLauncher(), weights, "v1", sha256_file(weights)) as served,
    ):
        os.kill(pid_of(served), signal.SIGKILL)
        raise KeyError("the block's own")
    assert "ended by signal 9" in caught.value.__notes__[0]


def test_the_blocks_own_error_leaves_a_live_server_for_the_next(weights: Path) -> None:
    with KeptServer() as held:
        with pytest.raises(KeyError), held.serve(ToyLauncher(), weights, "v1", sha256_file(weights)) as first:
            raise KeyError("the block's own")
        with held.serve(ToyLauncher(), weights, "v1", sha256_file(weights)) as second:
            assert pid_of(first) == pid_of(second)


def test_files_that_change_in_the_block_are_an_error_at_its_end(weights: Path) -> None:
    registered = sha256_file(weights)
    held = KeptServer()
    with (
        pytest.raises(ServerFailed, match="changed while v1 was measured"),
        held.serve(ToyLauncher(), weights, "v1", registered),
    ):
        weights.write_bytes(b"GGUF of another model")
    with pytest.raises(ServerFailed, match="after it was served"):
        held.close()


def test_a_directorys_files_count_too(tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_text("a")
    held = KeptServer()
    with (
        pytest.raises(ServerFailed, match="changed while"),
        held.serve(ToyLauncher(), folder, "v1", digest_of(folder)),
    ):
        (folder / "sub" / "b").write_text("b")
    with pytest.raises(ServerFailed, match="after it was served"):
        held.close()
