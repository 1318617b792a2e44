"""A server that somebody else runs, and weights in an object store: they come here only where it tells no digest."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from dagster import AssetKey
from upath import UPath

from milton_assets.definitions import build_defs
from milton_assets.usecases.anchors import entry_of
from milton_assets.usecases.weights import bring
from milton_assets.vocabulary.digest import sha256_bytes, sha256_file
from milton_assets.vocabulary.entry_table import hashed_from_table
from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.fingerprint import IdentityProof
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.registry import ArtefactKind, RegistryEntry, RegistryStore
from milton_assets.vocabulary.server import RunningServer
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.tier import TierResult
from resources.evidence_store import EvidenceStore
from resources.model_server import VLLMResource
from resources.registries import open_registry
from resources.registries.json_file import new_entry
from resources.servers.attached import AttachedServer
from resources.servers.identity import verified_serving
from resources.servers.kept import KeptServer
from resources.servers.llama_cpp import LlamaCppLauncher
from resources.servers.own_tokens import COUNTED_HERE
from tests.support.edge_bundles import make_bundle
from tests.support.gguf_file import F32, STRING, gguf_bytes, pair, tensor
from tests.support.object_store import Given, object_store
from tests.support.scripted_server import Body, ScriptedServer, scripted_server
from tests.support.targets import targets_of
from tests.support.workplace import competent, failure_of, workplace

WEIGHTS_BYTES = 32_000_000
A_LITTLE_BYTES = 2_500_000
"""More than the registry, the listings and a header of a megabyte at most, and a small part of the weights."""


@dataclass
class Store:
    """A bucket with one registered GGUF, and how much of it was given out."""

    bucket: UPath
    given: Given
    uri: str = ""
    sha256: str = ""

    def register(self, content: bytes) -> None:
        self.sha256 = sha256_bytes(content)
        folder = self.bucket / "models"
        (folder / "v1" / "model.gguf").write_bytes(content)
        entry = new_entry("org/base", gguf=f"v1/model.gguf#sha256={self.sha256}")
        (folder / "registry.json").write_text(json.dumps({"models": {"v1": entry}}))
        self.uri = f"s3://{folder.path}/registry.json"
        self.given.size_bytes = 0


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    given = Given()
    with object_store(given) as bucket:
        yield Store(bucket, given)


@pytest.fixture(scope="module")
def large() -> bytes:
    return gguf_bytes(
        [pair("general.architecture", STRING, "llama"), pair("tokenizer.chat_template", STRING, "{{ messages }}")],
        [tensor("token_embd.weight", (WEIGHTS_BYTES // 4,), F32, 0)],
        data=os.urandom(WEIGHTS_BYTES),
    )


@pytest.fixture
def registry(store: Store, large: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RegistryStore:
    store.register(large)
    return opened(store, tmp_path / "state", monkeypatch)


def opened(store: Store, state: Path, monkeypatch: pytest.MonkeyPatch) -> RegistryStore:
    for name, value in (
        ("AWS_ENDPOINT_URL", store.bucket.fs.endpoint_url),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ):
        monkeypatch.setenv(name, value)
    return open_registry(store.uri, StateDir(state))


PAGES = {"/v1/models": {"data": [{"id": "v1", "owned_by": "library"}]}, "/api/version": {"version": "0.40.12"}}


@dataclass
class Telling:
    """What an Ollama tells that it loaded: a blob's digest, or nothing."""

    sha256: str | None
    posts: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.posts = {"/api/show": self.shown}

    def shown(self, _: dict[str, Any]) -> Body:
        from_line = f"FROM /root/.ollama/models/blobs/sha256-{self.sha256}" if self.sha256 else "# unknown"
        return Body({"modelfile": f"{from_line}\n", "details": {}, "model_info": {}})


def served(server: ScriptedServer | str, registry: RegistryStore) -> RunningServer:
    """The registered v1, measured on the attached server: judged, served, and let go again."""
    artefact = registry.judged("v1").artefact(ArtefactKind.GGUF)
    at = server if isinstance(server, str) else server.base_url
    resource = VLLMResource(base_url=at, attached_kind="gguf")
    with resource.serve(artefact, "v1", bring=partial(bring, registry, "v1", artefact)) as running:
        return running


def test_weights_whose_digest_the_server_tells_are_not_fetched(store: Store, registry: RegistryStore) -> None:
    telling = Telling(store.sha256)
    with scripted_server(pages=PAGES, posts=telling.posts) as server:
        assert served(server, registry).fingerprint.identity is IdentityProof.TOLD_DIGEST
    assert 0 < store.given.size_bytes < A_LITTLE_BYTES


def test_a_server_that_tells_another_digest_is_refused_and_nothing_fetched(
    store: Store, registry: RegistryStore
) -> None:
    telling = Telling("0" * 64)
    with (
        scripted_server(pages=PAGES, posts=telling.posts) as server,
        pytest.raises(ServerFailed, match=f"sha256-{'0' * 64}.*{store.sha256}"),
    ):
        served(server, registry)
    assert store.given.size_bytes < A_LITTLE_BYTES


def test_of_a_server_that_tells_no_digest_the_weights_are_fetched_and_hashed(
    store: Store, registry: RegistryStore, tmp_path: Path
) -> None:
    telling = Telling(None)
    with scripted_server(pages=PAGES, posts=telling.posts) as server:
        running = served(server, registry)
    assert running.fingerprint.identity is IdentityProof.NAME_ONLY
    assert running.endpoint.counted_by == COUNTED_HERE
    (here,) = (tmp_path / "state").rglob("model.gguf")
    assert sha256_file(here) == store.sha256
    assert store.given.size_bytes > WEIGHTS_BYTES


def looked_for(named: NamedWeights, registry: RegistryStore, state: StateDir) -> RegistryEntry:
    targets, store = targets_of(state), EvidenceStore(state.benchmarks)
    return entry_of(named, registry, ArtefactKind.GGUF, state, targets, store, allow_code=())


def test_an_anchor_whose_version_has_other_weights_now_is_looked_for_without_fetching_these(
    store: Store, registry: RegistryStore, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="can be had nowhere"):
        looked_for(NamedWeights("v1", "0" * 64), registry, StateDir(tmp_path / "state"))
    assert store.given.size_bytes < A_LITTLE_BYTES


def test_an_anchor_whose_weights_the_registry_names_and_has_no_more_is_found_in_a_bundle(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateDir(tmp_path / "state")
    (weights,) = make_bundle(state.bundles, "v1").rglob("*.gguf")
    store.register(weights.read_bytes())
    registry = opened(store, state.root, monkeypatch)
    registry.judged("v1")
    (store.bucket / "models" / "v1" / "model.gguf").unlink()
    found = looked_for(NamedWeights("v1", store.sha256), registry, state)
    assert found.artefact(ArtefactKind.GGUF).path == str(weights)


def test_weights_that_are_another_file_by_now_are_not_measured(store: Store, registry: RegistryStore) -> None:
    artefact = registry.judged("v1").artefact(ArtefactKind.GGUF)
    (store.bucket / "models" / "v1" / "model.gguf").write_bytes(b"GGUF of another model")
    with pytest.raises(BadInput, match="has the digest"):
        bring(registry, "v1", artefact)


@pytest.mark.parametrize("later", ["0" * 64, None], ids=["another digest", "none"])
def test_a_server_must_tell_the_digest_still_when_it_was_used(later: str | None, tmp_path: Path) -> None:
    nowhere, sha256 = tmp_path / "nowhere.gguf", "a" * 64
    for kept in (True, False):
        telling = Telling(sha256)
        with scripted_server(pages=PAGES, posts=telling.posts) as server, KeptServer() as held:
            serve = held.serve if kept else verified_serving
            attached = AttachedServer(server.base_url)
            with pytest.raises(ServerFailed, match="has loaded"), serve(attached, nowhere, "v1", sha256):
                telling.sha256 = later
            telling.sha256 = sha256


@pytest.mark.slow
def test_tiers_are_measured_where_the_weights_never_were(store: Store, registry: RegistryStore, tmp_path: Path) -> None:
    think, telling, measured = competent(), Telling(store.sha256), ("reasoning_metrics", "retrieval_metrics")

    def reply(body: dict[str, Any]) -> Any:
        return "Hello." if body["messages"][-1]["content"] == "Hello" else think(body)

    with workplace(tmp_path) as wp, scripted_server(reply, pages=PAGES, posts=telling.posts) as server:
        environment = {
            "MILTON_STATE_DIR": str(wp.state.root),
            "MILTON_REGISTRY": registry.uri,
            "MILTON_PROFILE": "smoke",
            "MILTON_WATCH_MACHINE": "0",
            "MILTON_SERVER": server.base_url,
        }
        defs = build_defs(environment=environment, overrides={"edge_runtime": wp.defs.resources["edge_runtime"]})
        wp.instance.add_dynamic_partitions("model_versions", ["v1"])
        result = defs.resolve_job_def("benchmark_model").execute_in_process(
            instance=wp.instance,
            partition_key="v1",
            asset_selection=[AssetKey(name) for name in ("registry_entry", *measured)],
            raise_on_error=False,
        )
        assert result.success, failure_of(result)
        evidence = EvidenceStore(wp.state.benchmarks)
        for name in measured:
            table = evidence.latest(name, "v1").read()
            told = TierResult.from_table(table).provenance["fingerprint"]["server"]
            assert (told["name"], told["identity"]) == ("ollama", "sha256_told")
        assert hashed_from_table(evidence.latest("registry_entry", "v1").read()) == [False]
    assert store.given.size_bytes < A_LITTLE_BYTES
    assert not list(tmp_path.rglob("*.gguf"))


@pytest.mark.real_model
def test_a_real_server_that_was_started_on_a_blob_shows_weights_that_are_not_here(
    store: Store, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = small_gguf.read_bytes()
    store.register(content)
    blob = tmp_path / "blobs" / f"sha256-{store.sha256}"
    blob.parent.mkdir()
    blob.symlink_to(small_gguf)
    with LlamaCppLauncher().serve(blob, "v1") as running:
        registry = opened(store, tmp_path / "state", monkeypatch)
        found = served(running.endpoint.base_url, registry)
        assert found.fingerprint.identity is IdentityProof.TOLD_DIGEST
        asked = {"model": "v1", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}
        answer = httpx.post(f"{found.endpoint.v1}/chat/completions", json=asked, timeout=60).json()
        assert answer["choices"][0]["message"]["content"]
    assert store.given.size_bytes < len(content) / 10
