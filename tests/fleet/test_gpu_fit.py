"""Whether the layers that a device's settings put on its GPU fit there: asked before a byte travels, never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from milton_assets.edge.bundle import Bundle
from milton_assets.edge.deployment import Deployment, DeploymentFailed, EdgeTarget, deploy
from milton_assets.edge.deployment.offloading import least_bytes
from milton_assets.edge.manifest import BundleManifest, TensorEntry, TensorTable
from milton_assets.fleet.fit import DoesNotFit
from milton_assets.fleet.ssh import SshTarget
from milton_assets.fleet.target import DeployRequest
from milton_assets.vocabulary.fingerprint import GpuFingerprint
from milton_assets.vocabulary.inventory import Runtime
from milton_assets.vocabulary.progress import Progress
from milton_assets.vocabulary.state import StateDir
from tests.support.agents import PipeLink, measuring_agent_line
from tests.support.bundles import ingredients
from tests.support.crashing import clock
from tests.support.gguf_file import F32, STRING, gguf_bytes, pair, tensor

MIB = 1 << 20
ASKED = DeployRequest(actor="ada", load_test=False, health_rounds=0)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle whose model has three blocks of 2 MiB, and no more."""
    rows = [tensor(f"blk.{n}.weight", (2 * MIB // 4,), F32, n * 2 * MIB) for n in range(3)]
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes([pair("general.architecture", STRING, "llama")], rows, data=bytes(6 * MIB)))
    return ingredients(tmp_path, gguf=path).bundle(tmp_path / "bundles")


def kitchen(tmp_path: Path, nvml: Path, gpu_bytes: str, **env: str) -> SshTarget:
    """A device with a GPU of so much memory, whose settings put every layer on it unless `env` says otherwise."""
    gpu = {"LD_LIBRARY_PATH": str(nvml), "FAKE_GPUS": "1", "FAKE_GPU_BYTES": gpu_bytes}
    given = {"MILTON_SERVER_GPU_LAYERS": "99", **gpu, **env}
    line = measuring_agent_line("kitchen", tmp_path / "device", **given)
    return SshTarget("kitchen", "ssh://test", StateDir(tmp_path / "state"), PipeLink(), line)


@pytest.mark.slow
def test_layers_that_the_gpu_cannot_hold_are_refused_with_the_figures_before_anything_travels(
    tmp_path, fake_nvml, bundle
):
    device = kitchen(tmp_path, fake_nvml, str(4 * MIB))
    said = r"gpu_layers: 99\) hold 6\.0 MiB of weights, and Fake H200 has 4\.0 MiB in all"
    with pytest.raises(DoesNotFit, match=said) as refused:
        device.deploy(bundle.path, ASKED)
    assert "edge_server.gpu_layers" in str(refused.value.remedy)
    assert device.tally.sent_bytes == 0
    assert kitchen(tmp_path, fake_nvml, str(4 * MIB), MILTON_SERVER_GPU_LAYERS="2").deploy(bundle.path, ASKED)


@pytest.mark.slow
def test_a_gpu_that_does_not_tell_its_memory_refuses_nothing_and_that_is_said(tmp_path, fake_nvml, bundle):
    told: list[Progress] = []
    device = kitchen(tmp_path, fake_nvml, "untold")
    assert device.inventory().gpus[0].memory_bytes is None
    assert device.deploy(bundle.path, ASKED, on_progress=told.append).outcome == "committed"
    notes = [one.note for one in told if "is unknown" in one.note]
    assert len(notes) == 1
    assert "fit there is unknown: the memory of Fake H200 is not told; its load test shows it" in notes[0]


def test_a_device_refuses_them_itself_whoever_brings_the_bundle(tmp_path, bundle):
    runtime = Runtime(name="llama.cpp", build="b9000", gpu_layers=99)
    small = GpuFingerprint(name="T400", memory_bytes=4 * MIB, driver=None, power_limit_w=None)
    target = EdgeTarget("kitchen", tmp_path / "target")

    def brought(*gpus: GpuFingerprint) -> Deployment:
        return deploy(bundle.path, target, load_test=None, actor="ada", now=clock, runtime=runtime, gpus=gpus)

    with pytest.raises(DeploymentFailed, match=r"6\.0 MiB of weights, and T400 has 4\.0 MiB in all"):
        brought(small)
    assert brought(small, small).outcome == "committed"  # llama.cpp divides layers among GPUs


def with_tensors(bundle: Bundle, **sizes: int) -> BundleManifest:
    """The bundle's manifest with tensors of these sizes; `blk_0` stands for `blk.0.weight`."""
    at, entries = 0, []
    for name, size in sizes.items():
        name = f"{name.replace('_', '.')}.weight" if name.startswith("blk") else f"{name}.weight"
        digest = "0" * 64
        entries.append(TensorEntry(name=name, dtype="F32", shape=(), offset_bytes=at, size_bytes=size, blake3=digest))
        at += size
    table = TensorTable(path=bundle.manifest.primary, tensors=tuple(entries), rest_blake3="0" * 64)
    return bundle.manifest.model_copy(update={"tensor_tables": (table,)})


def test_what_layers_hold_at_least_is_reckoned_from_their_tensors(bundle):
    model = with_tensors(bundle, token_embd=50, blk_0=10, blk_1=20, blk_2=30, output=40)
    told = [least_bytes(model, layers) for layers in (1, 2, 3, 4, 99)]
    assert told == [30, 50, 60, 100, 100]  # builds differ in whether the output is the first or the last: the less
    assert least_bytes(with_tensors(bundle, token_embd=50, blk_0=10), 99) == 60  # its output is the embedding, again
    further = with_tensors(bundle, blk_0=10, blk_1_nextn=20, blk_1=30)
    assert least_bytes(further, 99) == 10  # what predicts further tokens may not be loaded
    assert least_bytes(with_tensors(bundle, token_embd=50), 99) is None
