"""Tokens are counted from the artefact here where somebody else runs the server, whatever its own page tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from milton_assets.tiers.inference import InferencePlan, Prompt, measure_inference
from milton_assets.vocabulary.chat import ModelCallFailed
from milton_assets.vocabulary.server import Endpoint, RunningServer
from resources.servers.attached import ITS_OWN_WORD, AttachedServer
from resources.servers.llama_cpp import LlamaCppLauncher
from resources.servers.own_tokens import COUNTED_HERE, own_counter
from tests.support.gguf_file import tiny_gguf
from tests.support.scripted_server import Body, answer, scripted_server

TEN_WORDS = "one two three four five six seven eight nine ten"
TEXTS = ["one two", "three", "", "one two three"]


def directory(root: Path) -> Path:
    """A Hugging Face directory whose tokens are words, and whose template puts one before and one after."""
    words = {word: number for number, word in enumerate(["<s>", "</s>", "<unk>", *TEN_WORDS.split()])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    root.mkdir()
    tokenizer.save(str(root / "tokenizer.json"))
    return root


@contextmanager
def attached(artefact: Path, times: int = 10) -> Iterator[RunningServer]:
    """A server as vLLM tells of itself, that says `times` as many tokens as there are, in its usage and on its page."""
    model = {"id": "m", "owned_by": "vllm", "root": str(artefact), "max_model_len": 4096}

    def page(body: dict[str, Any]) -> Body:
        return Body({"count": times * len(body["prompt"].split()), "max_model_len": 4096, "tokens": []})

    said = answer("one ", "two ", "three ", "four", delay_s=0.005, completion_tokens=4 * times, prompt_tokens=20)
    listed = {"/v1/models": {"object": "list", "data": [model]}}
    with (
        scripted_server(said, pages=listed, posts={"/tokenize": page}) as server,
        AttachedServer(server.base_url).serve(artefact, "m") as served,
    ):
        yield served


def counts(endpoint: Endpoint) -> list[int]:
    assert endpoint.count_tokens is not None
    return endpoint.count_tokens(TEXTS)


def test_a_directory_counts_by_its_own_tokenizer_without_what_a_template_adds(tmp_path: Path) -> None:
    with attached(directory(tmp_path / "hf")) as served:
        assert (counts(served.endpoint), served.endpoint.counted_by) == ([2, 1, 0, 3], COUNTED_HERE)


def test_where_no_tokenizer_lies_here_the_server_counts_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    with attached(tmp_path / "hf") as served:
        assert (counts(served.endpoint), served.endpoint.counted_by) == ([20, 10, 0, 30], ITS_OWN_WORD)


def test_a_server_that_tells_three_times_its_tokens_on_both_pages_is_found(tmp_path: Path) -> None:
    plan = InferencePlan(
        prompts=(Prompt(id="p", kind="code", text=TEN_WORDS),), requests_per_round=4, warm_up_requests=1, min_rounds=2,
        max_rounds=2, max_tokens=64, calibrate=False,
    )  # fmt: skip
    with attached(directory(tmp_path / "hf"), times=3) as served:
        result = measure_inference(served.endpoint, plan)
    assert result.provenance["tokens_counted_by"] == {"what": COUNTED_HERE, "because": None}
    figure = result.metric("output_tokens_per_s")
    assert not figure.valid
    assert "the server told 96 tokens, its tokenizer finds 32 in the text" in (figure.why or "")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"model": {"type": "BPE"}}'])
def test_a_file_that_is_no_tokenizer_is_an_error_of_the_count(text: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    count = own_counter(tmp_path)
    assert count is not None
    with pytest.raises(ModelCallFailed, match=r"tokenizer.json holds no tokenizer"):
        count(["one"])


def test_a_gguf_that_llama_cpp_does_not_load_is_an_error_of_the_count(tmp_path: Path) -> None:
    count = own_counter(tiny_gguf(tmp_path / "toy.gguf"))
    assert count is not None
    with pytest.raises(ModelCallFailed, match=r"toy.gguf does not load here"):
        count(["one"])


@pytest.mark.real_model
def test_a_gguf_counts_as_the_server_does_that_serves_it(small_gguf: Path) -> None:
    with LlamaCppLauncher(context_tokens=256).serve(small_gguf, "v1") as served:
        theirs = counts(served.endpoint)
    count = own_counter(small_gguf)
    assert count is not None
    assert count(TEXTS) == theirs
    assert theirs[2] == 0 < theirs[1] < theirs[3]
