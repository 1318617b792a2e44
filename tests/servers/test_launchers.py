"""The launchers' command lines, with a toy program in the server's place: real processes, no model."""

from __future__ import annotations

import json
import stat
import sys
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from milton_assets.settings import load_settings
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.fingerprint import Offload
from milton_assets.vocabulary.hf_directory import chat_template_sha256, quantization
from resources.servers.launching import edge_server, model_server
from resources.servers.llama_cpp import LlamaCppLauncher
from resources.servers.offload import offload_told
from resources.servers.vllm import VLLMLauncher
from tests.support import toy_server


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a program of that name on PATH that runs the toy server with the arguments it gets."""

    def install(name: str, *, shift: int = 0) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / name
        program.write_text(f'#!/bin/sh\nshift {shift}\nexec {sys.executable} {toy_server.__file__} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(folder), prepend=":")
        return program

    return install


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    return path


@pytest.fixture
def hf(tmp_path: Path) -> Path:
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"dtype": "bfloat16"}))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return folder


# --------------------------------------------------------------------------------------------------- llama.cpp


def test_a_llama_server_on_path_is_run_when_it_is_preferred(on_path, gguf: Path) -> None:
    on_path("llama-server")
    launcher = LlamaCppLauncher(
        prefer_binary=True, slots=2, context_tokens=1024, threads=3, embedding=True, extra=("--mlock",)
    )
    with launcher.serve(gguf, "toy") as served:
        arguments = httpx.get(f"{served.endpoint.base_url}/arguments").json()
    assert arguments[:3] == ["--jinja", "--props", "--metrics"]
    said = dict(pairwise(arguments))
    assert (said["--model"], said["--alias"], said["--host"]) == (str(gguf), "toy", "127.0.0.1")
    assert (said["--ctx-size"], said["--parallel"], said["--threads"]) == ("2048", "2", "3")
    assert {"--embedding", "--mlock"} <= set(arguments)
    assert served.fingerprint.launched_by_us
    assert "--mlock" in served.fingerprint.flags
    assert not {"--model", "--port", str(gguf)} & set(served.fingerprint.flags)


def test_a_llama_server_of_ones_own_is_run_with_its_layers_on_the_gpu(on_path, gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "milton.yaml").write_text(
        f"server: {{binary: {on_path('my-llama')}, gpu_layers: 99, slots: 2, extra_args: [--flash-attn, 'on']}}\n"
    )
    settings = load_settings({"MILTON_STATE_DIR": str(tmp_path)})
    for server in (model_server(settings.server), edge_server(settings.edge_server, settings.edge_program).file):
        with server.serve(gguf, "toy") as served:
            said = dict(pairwise(httpx.get(f"{served.endpoint.base_url}/arguments").json()))
        assert (said["--gpu-layers"], said["--parallel"], said["--flash-attn"]) == ("99", "2", "on")
        assert "--gpu-layers" in served.fingerprint.flags
        assert "embedded" not in served.fingerprint.name


CUDA_LOG = """\
ggml_cuda_init: found 1 CUDA devices (Total VRAM: 48541 MiB):
  Device 0: NVIDIA RTX A6000, compute capability 8.6, VMM: yes, VRAM: 48541 MiB
0.00.301.100 I llama_model_load_from_file_impl: using device CUDA0 (NVIDIA RTX A6000) (0000:01:00.0) - 48262 MiB free
0.00.302.000 I load_tensors: offloaded 7/31 layers to GPU
0.00.302.001 I load_tensors:        CUDA0 model buffer size =    10.00 MiB
0.00.307.542 I load_tensors: offloading output layer to GPU
0.00.307.551 I load_tensors: offloaded 31/31 layers to GPU
0.00.307.555 I load_tensors:        CUDA0 model buffer size =    40.50 MiB
0.00.307.556 I load_tensors:   CPU_Mapped model buffer size =    23.11 MiB
0.00.320.029 I llama_context:  CUDA_Host  output buffer size =     0.50 MiB
0.00.340.029 I llama_kv_cache:      CUDA0 KV buffer size =     9.00 MiB
0.00.341.029 I llama_kv_cache:      CUDA0 KV buffer size =     3.00 MiB
0.00.355.142 I sched_reserve:      CUDA0 compute buffer size =    16.75 MiB
0.00.355.150 I sched_reserve:  CUDA_Host compute buffer size =     2.51 MiB
"""


def test_what_a_llama_server_puts_on_gpus_is_in_its_fingerprint(on_path, gguf: Path, tmp_path: Path) -> None:
    program = on_path("llama-cuda")
    (tmp_path / "said").write_text(CUDA_LOG)
    program.write_text(program.read_text().replace("exec ", f"cat {tmp_path / 'said'} >&2\nexec ", 1))
    with LlamaCppLauncher(binary=str(program)).serve(gguf, "toy") as served:
        assert served.fingerprint.offload == Offload(
            layers=31, of_layers=31, gpus=("CUDA0: NVIDIA RTX A6000",), memory_bytes=int(69.25 * (1 << 20))
        )


def test_a_llama_server_is_told_to_say_what_it_puts_on_gpus(on_path, gguf: Path, tmp_path: Path) -> None:
    program = on_path("llama-cuda")
    heard = tmp_path / "heard"
    told = f'echo "$LLAMA_ARG_LOG_VERBOSITY" >> {heard}\nexec '
    program.write_text(program.read_text().replace("exec ", told, 1))
    with LlamaCppLauncher(binary=str(program)).serve(gguf, "toy"):
        pass
    with LlamaCppLauncher(binary=str(program), env={"LLAMA_ARG_LOG_VERBOSITY": "3"}).serve(gguf, "toy"):
        pass
    assert heard.read_text().split() == ["4", "3"]


@pytest.mark.parametrize(
    ("said", "how"),
    [
        ("load_tensors: offloaded 0/31 layers to GPU\n", "no layers on GPUs; no GPU used"),
        (
            "load_tensors: offloaded 7/31 layers to GPU\nload_tensors:      Vulkan0 model buffer size =  9.00 MiB\n",
            "some layers on GPUs; Vulkan0 used",
        ),
    ],
    ids=["none", "some"],
)
def test_layers_that_stay_on_the_cpu_are_told_from_those_on_a_gpu(said: str, how: str) -> None:
    offload = offload_told(said.splitlines())
    assert offload is not None
    assert offload.how() == how


def test_a_build_for_the_cpu_tells_of_no_gpu(on_path, gguf: Path) -> None:
    with LlamaCppLauncher(binary=str(on_path("llama-server"))).serve(gguf, "toy") as served:
        assert served.fingerprint.offload is None


def test_a_llama_server_is_found_on_path_by_its_name(on_path) -> None:
    program = on_path("llama-cuda")
    assert LlamaCppLauncher(binary="llama-cuda").program() == str(program)


def test_a_llama_server_that_is_not_there_is_refused(gguf: Path) -> None:
    with (
        pytest.raises(BadInput, match="there is no program /no/llama-server"),
        LlamaCppLauncher(binary="/no/llama-server").serve(gguf, "v1"),
    ):
        pytest.fail("it must not begin")


def test_layers_for_a_gpu_are_never_left_to_the_cpu_build(monkeypatch: pytest.MonkeyPatch, gguf: Path) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with (
        pytest.raises(BadInput, match=r"99 layers are to be on the GPU.*built for the CPU"),
        LlamaCppLauncher(prefer_binary=True, gpu_layers=99).serve(gguf, "v1"),
    ):
        pytest.fail("it must not begin")


@pytest.mark.parametrize("kind", ["directory", "nothing"])
def test_llama_cpp_refuses_what_is_no_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    if kind == "directory":
        path.mkdir()
    with pytest.raises(BadInput, match=f"{kind}.*expected: a GGUF file"), LlamaCppLauncher().serve(path, "v1"):
        pytest.fail("it must not begin")


def test_a_broken_gguf_fails_with_llama_cpps_own_words(gguf: Path) -> None:
    with pytest.raises(ServerFailed, match="model loading error"), LlamaCppLauncher().serve(gguf, "v1"):
        pytest.fail("it must not begin")


def test_a_library_that_the_system_lacks_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, gguf: Path, site: Path
) -> None:
    (site / "xllamacpp.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    named = r"libgomp\.so\.1: cannot open .*; libgomp\.so\.1 is in the package libgomp1"
    with pytest.raises(ServerFailed, match=named), LlamaCppLauncher().serve(gguf, "v1"):
        pass


@pytest.mark.parametrize(
    ("setting", "message"),
    [("no_such=1", "called no_such"), ("n_batch=many", "'many' is no int"), ("prompt=x", "called prompt")],
)
def test_a_setting_that_the_embedded_server_does_not_have_is_said(setting: str, message: str, gguf: Path) -> None:
    with (
        pytest.raises(ServerFailed, match=message),
        LlamaCppLauncher(extra=("--set", setting)).serve(gguf, "v1"),
    ):
        pytest.fail("it must not begin")


@pytest.mark.parametrize("options", [{"slots": 0}, {"context_tokens": 0}])
def test_no_slots_and_no_context_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(BadInput, match="at least 1"):
        LlamaCppLauncher(**options)


# -------------------------------------------------------------------------------------------------------- vLLM


def test_vllm_on_path_is_told_directory_name_port_and_limits(on_path, hf: Path) -> None:
    on_path("vllm", shift=1)
    launcher = VLLMLauncher(
        slots=4, context_tokens=2048, extra=("--enforce-eager",), env={"VLLM_CPU_KVCACHE_SPACE": "2"}
    )
    with launcher.serve(hf, "toy") as served:
        arguments = httpx.get(f"{served.endpoint.base_url}/arguments").json()
        environment = httpx.get(f"{served.endpoint.base_url}/environment").json()
    assert arguments[0] == str(hf)
    said = dict(pairwise(arguments))
    assert (said["--served-model-name"], said["--max-model-len"], said["--max-num-seqs"]) == ("toy", "2048", "4")
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert (environment["HF_HUB_OFFLINE"], environment["VLLM_NO_USAGE_STATS"]) == ("1", "1")
    assert served.fingerprint.flags == ("--max-num-seqs", "4", "--max-model-len", "2048", "--enforce-eager")
    assert served.fingerprint.quantization == "bfloat16"
    assert served.fingerprint.chat_template_sha256 == sha256_bytes(b"{{ messages }}")
    assert served.endpoint.slots == 4


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH in which vLLM's module is the toy server."""
    module = tmp_path / "site" / "vllm" / "entrypoints" / "openai"
    module.mkdir(parents=True)
    play = f"import runpy; runpy.run_path({toy_server.__file__!r}, run_name='__main__')"
    (module / "api_server.py").write_text(play)
    return tmp_path / "site"


def test_an_interpreter_of_our_choice_runs_vllms_module(site: Path, hf: Path) -> None:
    env = {"PYTHONPATH": str(site), "TOY_OWNED_BY": "vllm"}
    with VLLMLauncher(interpreter=Path(sys.executable), env=env).serve(hf, "toy") as served:
        arguments = httpx.get(f"{served.endpoint.base_url}/arguments").json()
    assert arguments[:2] == ["--model", str(hf)]
    assert (served.fingerprint.name, served.fingerprint.build) == ("vllm", "1.2.3")
    assert served.fingerprint.model_path == str(hf)


def test_vllm_that_has_loaded_another_directory_is_refused(site: Path, hf: Path) -> None:
    env = {"PYTHONPATH": str(site), "TOY_OWNED_BY": "vllm"}
    launcher = VLLMLauncher(interpreter=Path(sys.executable), env=env, extra=("--model", "/models/incumbent"))
    with pytest.raises(ServerFailed, match=r"has loaded .*/models/incumbent"), launcher.serve(hf, "toy"):
        pytest.fail("it must not begin")


def test_without_vllm_anywhere_the_ways_out_are_named(monkeypatch: pytest.MonkeyPatch, hf: Path) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with (
        pytest.raises(BadInput, match=r"no `vllm` on PATH.*attach to a running server"),
        VLLMLauncher().serve(hf, "v1"),
    ):
        pytest.fail("it must not begin")


def test_an_interpreter_that_is_not_there_is_refused(hf: Path) -> None:
    with (
        pytest.raises(BadInput, match="no interpreter /no/python"),
        VLLMLauncher(interpreter=Path("/no/python")).serve(hf, "v1"),
    ):
        pytest.fail("it must not begin")


def test_vllm_refuses_what_is_no_model_directory(gguf: Path) -> None:
    with pytest.raises(BadInput, match="no Hugging Face model directory"), VLLMLauncher().serve(gguf, "v1"):
        pytest.fail("it must not begin")


# -------------------------------------------------------------------------------------------- the directory itself


def test_a_template_file_goes_before_the_tokenizers(hf: Path) -> None:
    (hf / "chat_template.jinja").write_text("of its own")
    assert chat_template_sha256(hf) == sha256_bytes(b"of its own")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"quantization_config": {"quant_method": "awq"}, "dtype": "float16"}, "awq"),
        ({"torch_dtype": "float32"}, "float32"),
        ({}, None),
        ([], None),
    ],
)
def test_quantisation_is_the_method_else_the_weights_type(config: object, expected: str | None, hf: Path) -> None:
    (hf / "config.json").write_text(json.dumps(config))
    assert quantization(hf) == expected


def test_no_template_is_none_and_a_broken_file_is_said(hf: Path) -> None:
    (hf / "tokenizer_config.json").unlink()
    assert chat_template_sha256(hf) is None
    (hf / "tokenizer_config.json").write_text("{half")
    with pytest.raises(BadInput, match=r"tokenizer_config\.json is no JSON"):
        chat_template_sha256(hf)


def test_vllm_is_never_started_with_remote_code_for_a_model_that_is_not_named(hf: Path) -> None:
    with (
        pytest.raises(BadInput, match="for whatever it serves"),
        VLLMLauncher(interpreter=Path(sys.executable), extra=("--trust_remote_code",)).serve(hf, "v1"),
    ):
        pytest.fail("it must not begin")
    (hf / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling.Mine"}}))
    with (
        pytest.raises(BadInput, match="auto_map"),
        VLLMLauncher(interpreter=Path(sys.executable), allow_code=frozenset({"v2"})).serve(hf, "v1"),
    ):
        pytest.fail("it must not begin")
