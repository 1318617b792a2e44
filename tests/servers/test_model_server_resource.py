"""The Dagster resources: configuration in, a checked server out, and nothing left when a run ends."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import dagster as dg
import httpx
import psutil
import pytest

from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.registry import Artefact, ArtefactKind
from resources.model_server import LlamaCppResource, ModelServerResource, VLLMResource
from resources.servers.attached import AttachedServer
from resources.servers.llama_cpp import LlamaCppLauncher
from resources.servers.vllm import VLLMLauncher
from tests.support import toy_server
from tests.support.processes import gone
from tests.support.scripted_server import scripted_server


def artefact_of(path: Path, kind: ArtefactKind = ArtefactKind.GGUF, sha256: str | None = None) -> Artefact:
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "0" * 64
    return Artefact(kind=kind, path=str(path), size_bytes=1, sha256=sha256 or found)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    return path


def test_the_base_serves_nothing() -> None:
    with pytest.raises(TypeError, match="abstract"):
        ModelServerResource()


def test_llama_cpps_configuration_reaches_its_launcher(tmp_path: Path) -> None:
    resource = LlamaCppResource(
        slots=2,
        context_tokens=512,
        threads=1,
        start_deadline_s=5,
        prefer_binary=True,
        extra_args=["--set", "n_batch=64"],
        log_dir=str(tmp_path),
    )
    assert resource.artefact_kind is ArtefactKind.GGUF
    assert resource.launcher() == LlamaCppLauncher(
        slots=2,
        context_tokens=512,
        threads=1,
        start_deadline_s=5,
        prefer_binary=True,
        extra=("--set", "n_batch=64"),
        log_dir=tmp_path,
    )


def test_vllm_without_an_address_is_launched() -> None:
    resource = VLLMResource(vllm_python="/venv/bin/python", slots=4, extra_args=["--enforce-eager"], env={"A": "1"})
    assert resource.artefact_kind is ArtefactKind.HF_DISTILLED
    assert resource.launcher() == VLLMLauncher(
        interpreter=Path("/venv/bin/python"), slots=4, extra=("--enforce-eager",), env={"A": "1"}
    )


def test_vllm_with_an_address_is_attached_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_BOX_KEY", "sk-secret")
    resource = VLLMResource(base_url="http://gpu-box:8000", api_key_env="GPU_BOX_KEY", slots=8, path_there="/mnt/m")
    assert resource.launcher() == AttachedServer(
        "http://gpu-box:8000", api_key="sk-secret", slots=8, path_there=Path("/mnt/m")
    )
    assert VLLMResource(base_url="http://x", attached_kind="gguf").artefact_kind is ArtefactKind.GGUF


def test_an_attached_server_may_see_the_artefact_under_another_path(gguf: Path) -> None:
    listed = {"object": "list", "data": [{"id": "v1", "object": "model", "owned_by": "llamacpp"}]}
    with scripted_server(pages={"/v1/models": listed, "/props": {"model_path": "/mnt/v1.gguf"}}) as server:
        attached = VLLMResource(base_url=server.base_url, attached_kind="gguf", path_there="/mnt/v1.gguf")
        with attached.serve(artefact_of(gguf), "v1") as served:
            assert served.fingerprint.identity == "path"
        with (
            pytest.raises(ServerFailed, match=r"/mnt/v1\.gguf"),
            VLLMResource(base_url=server.base_url, attached_kind="gguf").serve(artefact_of(gguf), "v1"),
        ):
            pytest.fail("it must not begin")


def test_a_key_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPU_BOX_KEY", raising=False)
    with pytest.raises(BadInput, match="GPU_BOX_KEY is empty"):
        VLLMResource(base_url="http://gpu-box:8000", api_key_env="GPU_BOX_KEY").launcher()


def test_an_attached_kind_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="attached_kind"):
        VLLMResource(base_url="http://x", attached_kind="onnx")


def test_an_artefact_of_the_other_kind_is_refused(gguf: Path) -> None:
    artefact = artefact_of(gguf, ArtefactKind.HF_DISTILLED)
    with pytest.raises(BadInput, match="hf-distilled"), LlamaCppResource().serve(artefact, "v1"):
        pytest.fail("it must not begin")


def test_a_file_that_is_not_the_registered_one_is_not_served(gguf: Path) -> None:
    artefact = artefact_of(gguf, sha256="1" * 64)
    with pytest.raises(ServerFailed, match="as registered"), LlamaCppResource().serve(artefact, "v1"):
        pytest.fail("it must not begin")


def test_an_attached_server_with_another_model_fails_the_run_with_both_names(gguf: Path) -> None:
    @dg.asset
    def measured(model_server: VLLMResource) -> None:
        with model_server.serve(artefact_of(gguf), "v1"):
            pytest.fail("it must not begin")

    with scripted_server(models=["incumbent"]) as server:
        resource = VLLMResource(base_url=server.base_url, attached_kind="gguf")
        result = dg.materialize([measured], resources={"model_server": resource}, raise_on_error=False)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    told = str(failure.step_failure_data.error)
    assert "incumbent" in told
    assert "'v1'" in told


def test_an_attached_server_serves_within_a_run_and_is_left_running(gguf: Path) -> None:
    @dg.asset
    def measured(model_server: VLLMResource) -> str:
        with model_server.serve(artefact_of(gguf), "scripted") as served:
            return served.endpoint.model

    with scripted_server() as server:
        resource = VLLMResource(base_url=server.base_url, attached_kind="gguf")
        result = dg.materialize([measured], resources={"model_server": resource})
        assert result.output_for_node("measured") == "scripted"
        assert httpx.get(f"{server.base_url}/health").status_code == 200


RUN = """
    import sys
    import time
    import httpx
    import dagster as dg
    from milton_assets.vocabulary.registry import Artefact, ArtefactKind
    from resources.model_server import VLLMResource
    from resources.servers.identity import digest_of
    from pathlib import Path

    folder = Path(sys.argv[1])
    artefact = Artefact(
        kind=ArtefactKind.HF_DISTILLED, path=str(folder), size_bytes=1, sha256=digest_of(folder)
    )

    @dg.asset
    def measured(model_server: VLLMResource) -> None:
        with model_server.serve(artefact, "toy") as served:
            print("serving at", served.endpoint.base_url, flush=True)
            if sys.argv[3] == "fail":
                raise ValueError("the tier's own")
            time.sleep(60)

    env = {"PYTHONPATH": sys.argv[2]}
    dg.materialize([measured], resources={"model_server": VLLMResource(vllm_python=sys.executable, env=env)})
"""


@pytest.mark.parametrize("how", ["fail", signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=str)
def test_a_run_that_ends_in_whatever_way_leaves_no_server(how: str | signal.Signals, tmp_path: Path) -> None:
    module = tmp_path / "site" / "vllm" / "entrypoints" / "openai"
    module.mkdir(parents=True)
    (module / "api_server.py").write_text(f"import runpy; runpy.run_path({toy_server.__file__!r}, run_name='__main__')")
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(RUN))
    root = Path(toy_server.__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, str(script), str(folder), str(tmp_path / "site"), "fail" if how == "fail" else "stay"],
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as run:
        assert run.stdout
        url = next(line for line in run.stdout if line.startswith("serving at")).split()[-1]
        if isinstance(how, signal.Signals):
            below = psutil.Process(run.pid).children(recursive=True)
            assert below
            run.send_signal(how)
        else:
            below = []
        run.wait(60)
        assert all(gone(process.pid) for process in below)
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)
