"""The commands as a user types them, on real weights served by a real llama.cpp: README's block, dg, milton.

One campaign over one real model is run once for all tests here; each then asks a question of what it left behind.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.tier import TierResult
from resources.evidence_store import EvidenceStore
from tests.support.processes import left_behind

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
VERSION = "v1.20260111.1425"
pytestmark = [pytest.mark.slow, pytest.mark.real_model, pytest.mark.timeout(1500)]


@dataclass(frozen=True)
class Shell:
    """A shell whose state folder is its own."""

    state: StateDir

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(self.state.root.parent),
            "MILTON_STATE_DIR": str(self.state.root),
            "MILTON_WATCH_MACHINE": "0",
            "MILTON_PROFILE": "smoke",
            "MILTON_POLICY": "smoke",
        }
        environment |= {k: v for k, v in os.environ.items() if k.startswith("COV")}
        command = ["bash", "-euo", "pipefail", "-c", script]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def readme_block(holding: str) -> str:
    """The shell block of the README that holds this line."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return next(block for block in blocks if holding in block)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory, requantised_gguf) -> Iterator[tuple[Shell, subprocess.CompletedProcess[str]]]:
    """A state folder in which the README's three lines have measured, decided on and deployed one real model."""
    shell = Shell(StateDir(tmp_path_factory.mktemp("campaign") / "state"))
    added = shell.run(
        f"milton registry add --version {VERSION} --gguf {requantised_gguf('Q4_0')} --base-model SmolLM2-135M-Instruct"
    )
    assert added.returncode == 0, added.stderr
    block = readme_block("dagster job execute -j autobench").replace("source .venv/bin/activate\n", "")
    yield shell, shell.run(block)


def test_the_readmes_three_lines_end_with_a_deployed_model(campaign):
    shell, done = campaign
    assert done.returncode == 0, done.stderr
    assert f"PROMOTE {VERSION}" in done.stdout
    assert (shell.state.deployments / "local" / "current" / "model").is_dir()


def test_progress_names_model_tier_and_how_long_to_go(campaign):
    _, done = campaign
    for tier in ("inference", "reasoning", "retrieval"):
        assert re.search(rf"model 1/1 {VERSION} {tier} \d+/\d+", done.stderr)
    # The first campaign of a state folder knows nothing of tiers to come, so only the last one tells of the whole.
    assert re.search(rf"model 1/1 {VERSION} retrieval (\d+)/\1 .*about 0:00 left", done.stderr)


def test_the_card_ends_with_commands_that_work(campaign):
    shell, done = campaign
    command = re.search(r"milton trace deploy_\S+", done.stdout)
    assert command
    traced = shell.run(command.group())
    assert traced.returncode == 0, traced.stdout + traced.stderr
    assert [line.split()[1] for line in traced.stdout.splitlines() if line.startswith("✓")] == [
        "deployment",
        "release",
        "bundle",
        "decision",
        "evidence",
        "registry",
        "weights",
    ]


def test_the_figures_come_from_the_registered_weights(campaign):
    shell, _ = campaign
    file = EvidenceStore(shell.state.benchmarks).latest("inference_metrics", VERSION)
    server = json.loads(file.read().schema.metadata[b"milton"])["provenance"]["fingerprint"]["server"]
    assert server["name"].startswith("llama.cpp")
    (registered,) = (shell.state.quantized / VERSION).glob("*.gguf")
    assert server["model_path"] == str(registered)
    assert server["quantization"] == "Q4_0"


def test_plain_sha256sum_accepts_the_bundle(campaign):
    shell, _ = campaign
    bundle = next(shell.state.bundles.glob("milton_edge_bundle_*"))
    assert shell.run(f"cd {bundle} && sha256sum -c --quiet SHA256SUMS").returncode == 0


def test_results_show_the_same_decision(campaign):
    shell, _ = campaign
    shown = shell.run("milton results --json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["decision"]["winner"] == VERSION


def test_results_draw_latencies_and_throughput_from_the_pinned_evidence(campaign, tmp_path):
    shell, _ = campaign
    drawn = shell.run(f"milton results --pictures {tmp_path}")
    assert drawn.returncode == 0, drawn.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "intervals.png",
        "latency.png",
        "pareto.png",
        "throughput_latency.png",
    ]


def test_status_and_history_agree_on_what_runs_where(campaign):
    shell, _ = campaign
    status = json.loads(shell.run("milton status --json").stdout)
    assert VERSION in json.dumps(status)
    assert "committed" in shell.run("milton history").stdout


def test_no_server_is_left_behind(campaign):
    shell, _ = campaign
    assert left_behind(str(shell.state.root)) == []


def test_dg_launches_one_model_and_the_answers_come_from_the_cache(campaign):
    shell, _ = campaign
    done = shell.run(f'eval "$(milton env)"; dg launch --job benchmark_model --partition {VERSION}')
    assert done.returncode == 0, done.stdout + done.stderr
    file = EvidenceStore(shell.state.benchmarks).latest("reasoning_metrics", VERSION)
    result = TierResult.from_table(file.read())
    cache, fresh = result.provenance["answer_cache"], int((result.samples["part"] == "fresh").sum())
    # Fresh variants are drawn anew by every campaign, and one of thousands may come twice; all else was asked before.
    assert 0 < cache["misses"] <= fresh
    assert cache["hits"] > cache["misses"]


def test_dagster_validates_the_definitions(campaign):
    shell, _ = campaign
    done = shell.run('eval "$(milton env)"; dagster definitions validate')
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_dry_run_measures_nothing(campaign):
    shell, _ = campaign
    before = sorted(shell.state.benchmarks.rglob("*"))
    done = shell.run('eval "$(milton env)"; MILTON_DRY_RUN=1 dagster job execute -j autobench')
    assert done.returncode == 0, done.stderr
    assert "skipped (dry run)" in done.stdout
    assert sorted(shell.state.benchmarks.rglob("*")) == before
