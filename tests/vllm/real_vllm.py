"""The real vLLM, launched by `VLLMResource` on the small model as a Hugging Face directory: `make test-vllm`.

What belongs here: what only the real server can show. What does not: anything that a toy or a scripted server can show,
which is in `tests/servers`. The file's name keeps it out of the ordinary suite: it needs an environment of 3.5 GB
(`vllm_env.py`), and fails, it does not skip, where that is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from milton_assets.tiers.inference import METRICS, InferencePlan, measure_inference
from milton_assets.vocabulary.chat import Message, Sampling
from milton_assets.vocabulary.digest import sha256_file, short
from milton_assets.vocabulary.errors import ServerFailed
from milton_assets.vocabulary.hf_directory import chat_template_sha256
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.registry import Artefact, ArtefactKind
from milton_assets.vocabulary.server import RunningServer
from resources.hardware import fingerprint
from resources.model_server import VLLMResource
from resources.servers.attached import AttachedServer
from resources.servers.client import OpenAIChatModel
from resources.servers.identity import digest_of
from tests.vllm.vllm_env import CPU, environment_folder, interpreter_of, is_whole, recipe

pytestmark = pytest.mark.timeout(900)

CONVERTER = Path(__file__).with_name("gguf_to_hf.py")
CPU_ONLY = {"VLLM_CPU_KVCACHE_SPACE": "1"}


@pytest.fixture(scope="module")
def interpreter() -> Path:
    """The environment's Python. Fails where it was not made."""
    folder = environment_folder(recipe(), os.environ)
    if not is_whole(folder, recipe()):
        pytest.fail(f"there is no vLLM environment at {folder}; make it with `python tests/vllm/vllm_env.py`")
    return interpreter_of(folder)


@pytest.fixture(scope="module")
def directory(interpreter: Path, small_gguf: Path) -> Path:
    """The small model as a Hugging Face directory, made once and kept beside the environment."""
    target = interpreter.parents[1] / "models" / short(sha256_file(small_gguf))
    if not target.is_dir():
        staged = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.rmtree(staged, ignore_errors=True)
        subprocess.run([interpreter, CONVERTER, small_gguf, staged], check=True)
        staged.rename(target)
    return target


@pytest.fixture(scope="module")
def artefact(directory: Path) -> Artefact:
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    return Artefact(kind=ArtefactKind.HF_DISTILLED, path=str(directory), size_bytes=size, sha256=digest_of(directory))


@pytest.fixture(scope="module")
def resource(interpreter: Path) -> VLLMResource:
    return VLLMResource(
        vllm_python=str(interpreter),
        slots=4,
        context_tokens=2048,
        extra_args=["--enforce-eager"],
        env=CPU_ONLY if recipe() is CPU else {},
        start_deadline_s=600,
    )


@pytest.fixture(scope="module")
def served(resource: VLLMResource, artefact: Artefact) -> Iterator[RunningServer]:
    began = time.monotonic()
    with resource.serve(artefact, "v1") as found:
        print(f"vLLM was ready after {time.monotonic() - began:.0f} s")
        ours = psutil.Process().children(recursive=True)
        assert len(ours) > 2
        yield found
        leaving = time.monotonic()
    print(f"vLLM was gone after {time.monotonic() - leaving:.1f} s")
    psutil.wait_procs(ours, timeout=0)
    assert not [process for process in ours if process.is_running()]
    with pytest.raises(httpx.ConnectError):
        httpx.get(found.endpoint.v1)


def test_it_answers_and_gives_logprobs(served: RunningServer) -> None:
    with OpenAIChatModel(served.endpoint, 120) as model:
        said = model.complete([Message("user", "Name the capital of France.")], Sampling(max_tokens=12))
        ask = [Message("user", "Is Paris in France? Answer Yes or No.")]
        first = model.complete(ask, Sampling(max_tokens=1), top_logprobs=10).first_token_alternatives
    assert "Paris" in said.text
    assert said.completion_tokens
    assert len(first) == 10
    assert {"Yes", "No"} & {alternative.token for alternative in first}


def test_its_fingerprint_names_build_directory_template_and_flags(served: RunningServer, directory: Path) -> None:
    found = fingerprint(served).server
    assert found is not None
    assert (found.name, found.launched_by_us) == ("vllm", True)
    assert found.build
    assert Path(found.model_path or "") == directory
    assert found.chat_template_sha256 == chat_template_sha256(directory)
    assert (found.quantization, found.context_tokens, found.slots) == ("bfloat16", 2048, 4)
    assert "--enforce-eager" in found.flags


def test_the_inference_tier_measures_it(served: RunningServer) -> None:
    result = measure_inference(served.endpoint, InferencePlan.smoke())
    assert {metric.name for metric in result.metrics} == {name for name, _ in METRICS}
    success = result.metric("success_rate")
    assert (success.status, success.value, success.errors) == (Status.OK, 1.0, 0)
    for name in ("ttft_ms.median", "tpot_ms.median", "e2e_ms.median", "output_tokens_per_s"):
        metric = result.metric(name)
        print(name, metric.value, metric.interval)
        assert metric.status is Status.OK
        assert metric.value is not None
        assert metric.value > 0


def test_it_can_be_attached_to_and_refuses_another_directory(
    served: RunningServer, directory: Path, tmp_path: Path
) -> None:
    attached = AttachedServer(served.endpoint.base_url, slots=4)
    with attached.serve(directory, "v1") as found:
        assert found.fingerprint.name == "vllm"
    with pytest.raises(ServerFailed, match="has loaded"), attached.serve(tmp_path, "v1"):
        pytest.fail("it must not begin")
    with pytest.raises(ServerFailed, match=r"serves \['v1'\]"), attached.serve(directory, "v2"):
        pytest.fail("it must not begin")


def test_a_model_it_cannot_load_fails_with_its_own_words(resource: VLLMResource, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text('{"model_type": "no-such-architecture"}')
    artefact = Artefact(kind=ArtefactKind.HF_DISTILLED, path=str(tmp_path), size_bytes=1, sha256=digest_of(tmp_path))
    before = set(psutil.Process().children(recursive=True))
    with (
        pytest.raises(ServerFailed, match=r"before it was ready[\s\S]*no-such-architecture"),
        resource.serve(artefact, "v1"),
    ):
        pytest.fail("it must not begin")
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_start_that_takes_too_long_is_given_up_and_leaves_nothing(resource: VLLMResource, artefact: Artefact) -> None:
    before = set(psutil.Process().children(recursive=True))
    hasty = resource.model_copy(update={"start_deadline_s": 12.0})
    with pytest.raises(ServerFailed, match="not ready after 12 s"), hasty.serve(artefact, "v1"):
        pytest.fail("it must not begin")
    assert set(psutil.Process().children(recursive=True)) <= before
