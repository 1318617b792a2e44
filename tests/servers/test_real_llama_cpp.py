"""The real llama.cpp server on the real small model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from milton_assets.tiers.reasoning.prompts import cross_check, plan
from milton_assets.vocabulary.chat import Completion, Message, Sampling
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import ServerFailed
from milton_assets.vocabulary.registry import Artefact, ArtefactKind
from milton_assets.vocabulary.server import RunningServer
from resources.model_server import LlamaCppResource
from resources.servers.attached import AttachedServer
from resources.servers.client import OpenAIChatModel
from resources.servers.llama_cpp import BINARY, LlamaCppLauncher
from resources.servers.repeatable import repeatable

pytestmark = [pytest.mark.slow, pytest.mark.real_model]

DRAFTS = ("Jupiter.", "Jupiter is the largest planet.", "It is the sun.", "Saturn, with its rings.")
FRANCE = [Message("user", "Name the capital of France.")]


@pytest.fixture(scope="module")
def served(small_gguf: Path) -> Iterator[RunningServer]:
    with LlamaCppLauncher(slots=2, context_tokens=1024).serve(small_gguf, "v1") as found:
        yield found


@pytest.fixture
def model(served: RunningServer) -> Iterator[OpenAIChatModel]:
    with OpenAIChatModel(served.endpoint, 60) as found:
        yield found


def test_it_answers(model: OpenAIChatModel) -> None:
    got = model.complete(FRANCE, Sampling(max_tokens=12))
    assert "Paris" in got.text
    assert got.prompt_tokens
    assert got.completion_tokens


def test_it_answers_alike_each_time(model: OpenAIChatModel) -> None:
    texts = {model.complete(FRANCE, Sampling(max_tokens=6)).text for _ in range(3)}
    assert len(texts) == 1


def test_conversations_that_open_alike_are_answered_alike_in_every_order(small_gguf: Path) -> None:
    asked = [cross_check("Which is the largest planet?", draft, "How large is it?", "Very.") for draft in DRAFTS]
    planned = [plan("Which is the largest planet?", draft, 1) for draft in DRAFTS]
    with (
        LlamaCppLauncher(context_tokens=1024).serve(small_gguf, "v1") as alone,
        OpenAIChatModel(alone.endpoint, 60, asking=repeatable(alone.fingerprint)) as model,
    ):

        def answers(conversations: Sequence[Sequence[Message]]) -> list[Completion]:
            return [model.complete(messages, Sampling(max_tokens=6), top_logprobs=5) for messages in conversations]

        forwards = answers([*asked, *planned])
        model.complete(FRANCE, Sampling(max_tokens=2))
        backwards = answers([*reversed(asked), *reversed(planned)])
    assert forwards == [*reversed(backwards[: len(asked)]), *reversed(backwards[len(asked) :])]
    assert len({one.first_token_alternatives for one in forwards}) == len(forwards)


def test_it_reports_the_end_of_its_budget(model: OpenAIChatModel) -> None:
    assert model.complete(FRANCE, Sampling(max_tokens=2)).finish_reason == "length"


def test_it_gives_alternatives_for_the_first_token(model: OpenAIChatModel) -> None:
    ask = [Message("user", "Is Paris in France? Answer Yes or No.")]
    got = model.complete(ask, Sampling(max_tokens=1), top_logprobs=10).first_token_alternatives
    assert len(got) == 10
    assert all(a.logprob <= 0 for a in got)
    assert [a.logprob for a in got] == sorted((a.logprob for a in got), reverse=True)
    assert {"Yes", "No"} & {a.token for a in got}


def test_it_keeps_to_a_schema(model: OpenAIChatModel) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}
    text = model.complete(FRANCE, Sampling(max_tokens=40), json_schema=schema).text
    assert list(json.loads(text)) == ["city"]


def test_its_closed_connections_are_no_errors(model: OpenAIChatModel) -> None:
    with ThreadPoolExecutor(3) as pool:
        texts = list(pool.map(lambda _: model.complete(FRANCE, Sampling(max_tokens=1)).text, range(16)))
    assert len(set(texts)) == 1


def test_its_fingerprint_is_that_of_the_file(served: RunningServer, small_gguf: Path) -> None:
    fingerprint = served.fingerprint
    assert fingerprint.name == "llama.cpp (embedded)"
    assert fingerprint.build is not None
    assert fingerprint.build.startswith("xllamacpp ")
    assert Path(fingerprint.model_path or "").resolve() == small_gguf.resolve()
    assert (fingerprint.quantization, fingerprint.context_tokens, fingerprint.slots) == ("Q4_1", 1024, 2)
    assert fingerprint.chat_template_sha256 is not None


def test_it_can_be_attached_to_by_url_and_is_recognised(
    served: RunningServer, small_gguf: Path, tmp_path: Path
) -> None:
    attached = AttachedServer(served.endpoint.base_url)
    with attached.serve(small_gguf, "v1") as found:
        assert (found.fingerprint.name, found.endpoint.slots) == ("llama.cpp", 2)
    with pytest.raises(ServerFailed, match="expected"), attached.serve(tmp_path / "other.gguf", "v1"):
        pytest.fail("it must not begin")
    with pytest.raises(ServerFailed, match=r"serves \['v1'\]"), attached.serve(small_gguf, "v2"):
        pytest.fail("it must not begin")


def test_the_resource_serves_the_registered_file_and_frees_everything(small_gguf: Path) -> None:
    artefact = Artefact(
        kind=ArtefactKind.GGUF,
        path=str(small_gguf),
        size_bytes=small_gguf.stat().st_size,
        sha256=sha256_file(small_gguf),
    )
    with LlamaCppResource(context_tokens=512).serve(artefact, "v1") as found:
        base_url = found.endpoint.base_url
        with OpenAIChatModel(found.endpoint) as model:
            assert model.complete(FRANCE, Sampling(max_tokens=4)).text
    with pytest.raises(ServerFailed, match="gave no answer"), AttachedServer(base_url).attach("v1"):
        pytest.fail("it must not begin")


@pytest.mark.skipif(shutil.which(BINARY) is None, reason="there is no llama-server on PATH")
def test_a_llama_server_on_path_serves_it_too(small_gguf: Path) -> None:
    with LlamaCppLauncher(context_tokens=512, prefer_binary=True).serve(small_gguf, "v1") as found:
        assert (found.fingerprint.name, found.fingerprint.quantization) == ("llama.cpp", "Q4_1")
        assert found.fingerprint.build
        with OpenAIChatModel(found.endpoint, 60) as model:
            assert "Paris" in model.complete(FRANCE, Sampling(max_tokens=12)).text


def test_a_setting_reaches_llama_cpp(small_gguf: Path) -> None:
    launcher = LlamaCppLauncher(context_tokens=512, extra=("--set", "n_batch=64", "--set", "warmup=false"))
    with launcher.serve(small_gguf, "v1") as found:
        assert found.fingerprint.flags[-4:] == ("--set", "n_batch=64", "--set", "warmup=false")
