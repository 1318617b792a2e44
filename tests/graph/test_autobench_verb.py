"""`milton autobench` as a user meets it: what it says when it cannot, when it is interrupted, and when it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dagster import AssetKey, AssetRecordsFilter, DagsterInstance, DagsterRunStatus

from milton_assets.campaign.one_at_a_time import only_campaign
from milton_assets.selection.summary import read_summary
from milton_assets.vocabulary.campaign import UnfinishedCampaign
from milton_assets.vocabulary.tier import asset_of
from tests.support.tiers import BUILT_IN
from tests.support.workplace import Workplace, competent

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
KEPT, ALL = len(BUILT_IN) + 1, 3 * len(BUILT_IN)
"""Measurements of three models that were made before the second was asked anything: the first's, and the second's
fidelity, which is first and asks nothing of a server that tells no probabilities."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Shell:
    """Commands over a workplace, in processes of their own."""

    wp: Workplace
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        given = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(self.wp.state.root.parent),
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "MILTON_STATE_DIR": str(self.wp.state.root),
            "MILTON_WATCH_MACHINE": "0",
            "DAGSTER_MODULE_NAME": "tests.support.served_module",
            "MILTON_PROFILE": "smoke",
            "MILTON_POLICY": "smoke",
            "SCRIPTED_SERVER": self.wp.server.base_url,
            **{k: v for k, v in os.environ.items() if k.startswith("COV")},
            **environment,
        }
        return subprocess.Popen(command, cwd=ROOT, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*command, **environment)
        out, err = process.communicate(timeout=500)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    @property
    def instance(self) -> DagsterInstance:
        return DagsterInstance.from_config(str(self.wp.state.dagster))

    def times_measured(self, tier: str, version: str) -> int:
        wanted = AssetRecordsFilter(asset_key=AssetKey(asset_of(tier)), asset_partitions=[version])
        with self.instance as instance:
            return len(instance.fetch_materializations(wanted, limit=100).records)


@pytest.fixture
def shell(wp):
    return Shell(wp)


def read_until(process: subprocess.Popen[str], words: str) -> list[str]:
    """The lines of standard error up to the one that holds `words`."""
    assert process.stderr
    lines = []
    for line in process.stderr:
        lines.append(line.rstrip("\n"))
        if words in line:
            return lines
    pytest.fail(f"{words!r} was never said; said was {lines}")


def own_words(stderr: str) -> list[str]:
    """What was said beside progress, which starts with the time."""
    return [line for line in stderr.splitlines() if line and not line.startswith(("[", "deploy ", "copy "))]


def test_without_a_registry_it_says_so_in_one_line(shell):
    done = shell.run("milton", "autobench")
    assert done.returncode == 1
    assert len(own_words(done.stderr)) == 1
    assert "there is no registry at" in done.stderr
    assert "next: `milton demo`" in done.stderr


def test_dagsters_own_command_adds_its_line_and_no_stack(shell):
    shell.run("milton", "env")
    done = shell.run("dagster", "job", "execute", "-j", "autobench", DAGSTER_HOME=str(shell.wp.state.dagster))
    assert done.returncode == 1
    assert [line.split(":")[0] for line in own_words(done.stderr)] == ["milton", "Error"]


def test_a_version_that_is_no_candidate_is_named_with_those_that_are(shell):
    shell.wp.register("v1", competent())
    done = shell.run("milton", "autobench", "--only", "v7")
    assert done.returncode == 1
    assert "v7 is no candidate. expected: one of v1" in done.stderr


def test_a_second_campaign_is_refused_in_one_line_that_names_the_first(shell):
    shell.wp.register("v1", competent())
    with only_campaign(shell.wp.state.campaign_lock):
        done = shell.run("milton", "autobench")
    assert done.returncode == 1
    assert len(own_words(done.stderr)) == 1
    assert f"another campaign is running here (process {os.getpid()})" in done.stderr


def test_a_second_campaign_that_waits_says_so_at_once_and_ends_at_once_on_ctrl_c(shell):
    shell.wp.register("v1", competent())
    with only_campaign(shell.wp.state.campaign_lock):
        process = shell.start("milton", "autobench", "--wait")
        assert read_until(process, "waiting for it to end")[:-1] == []
        asked = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert time.monotonic() - asked < 20
    assert process.returncode == 130
    assert own_words(err) == ["milton: interrupted; nothing was measured"]


def interrupted(shell: Shell, how: signal.Signals) -> tuple[int, list[str], UnfinishedCampaign]:
    """A campaign over v1, v2 and v3, ended by a signal while v2 is measured: exit code, what was said, the record."""
    reached, go_on = threading.Event(), threading.Event()

    def stopping(body):
        reached.set()
        go_on.wait(120)
        return competent()(body)

    shell.wp.register("v1", competent())
    shell.wp.register("v2", stopping, seed=1)
    shell.wp.register("v3", competent(), seed=2)
    process = shell.start("milton", "autobench")
    try:
        assert reached.wait(300)
        process.send_signal(how)
        _, err = process.communicate(timeout=120)
    finally:
        go_on.set()
        process.kill()
    record = UnfinishedCampaign.read(shell.wp.state.unfinished_campaign)
    assert record is not None
    shell.wp.behaviours["v2"] = competent()
    return process.returncode, own_words(err), record


def test_an_interrupted_campaign_says_two_lines_and_is_gone_on_with(shell):
    code, said, record = interrupted(shell, signal.SIGINT)
    assert code == 130
    assert said == [
        f"milton: interrupted; {KEPT} of {ALL} measurements of {record.run_id} are kept",
        "milton: next: the same command goes on from there, `milton autobench --new` starts over",
    ]
    with shell.instance as instance:
        assert sorted(instance.get_dynamic_partitions("model_versions")) == ["v1", "v2"]
        assert instance.get_dynamic_partitions("benchmark_runs") == []
        statuses = {(run.job_name, run.tags.get("dagster/partition")): run.status for run in instance.get_runs()}
    assert statuses == {
        ("autobench", None): DagsterRunStatus.CANCELED,
        ("benchmark_model", "v1"): DagsterRunStatus.SUCCESS,
        ("benchmark_model", "v2"): DagsterRunStatus.CANCELED,
    }

    done = shell.run("milton", "autobench")
    assert done.returncode == 0, done.stderr
    assert f"{record.run_id}: goes on where it was interrupted" in done.stderr
    assert read_summary(shell.wp.state.runs).run_id == record.run_id
    for tier in BUILT_IN:
        assert [shell.times_measured(tier, version) for version in ("v1", "v2", "v3")] == [1, 1, 1]
    assert not shell.wp.state.unfinished_campaign.exists()


def test_a_killed_campaign_is_gone_on_with_and_its_runs_and_places_are_given_up(shell):
    _, _, record = interrupted(shell, signal.SIGKILL)
    process = shell.start("milton", "autobench")
    read_until(process, "v2 inference: starting")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert own_words(err)[-2:] == [
        f"milton: interrupted; {KEPT} of {ALL} measurements of {record.run_id} are kept",
        "milton: next: the same command goes on from there, `milton autobench --new` starts over",
    ]
    with shell.instance as instance:
        assert all(run.is_finished for run in instance.get_runs())
        assert instance.event_log_storage.get_concurrency_info("accelerator").claimed_slots == []


def test_a_changed_setting_starts_a_new_campaign_and_says_which(shell):
    _, _, record = interrupted(shell, signal.SIGINT)
    process = shell.start("milton", "autobench", MILTON_RERANK="listwise")
    said = read_until(process, "v1 inference: starting")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert any(
        f"{record.run_id} did not end and is not gone on with: settings: rerank changed "
        "('pointwise' then, 'listwise' now)" in line
        for line in said
    )
    now = UnfinishedCampaign.read(shell.wp.state.unfinished_campaign)
    assert now is not None
    assert now.run_id != record.run_id


def test_one_tier_of_one_model_is_measured_and_the_rest_counts_as_it_was_measured_last(shell):
    for seed, version in enumerate(("v1", "v2")):
        shell.wp.register(version, competent(), seed=seed)
    assert shell.run("milton", "autobench").returncode == 0
    done = shell.run("milton", "autobench", "--only", "v2", "--tier", "reasoning")
    assert done.returncode == 0, done.stderr
    measured = {(tier, v): shell.times_measured(tier, v) for tier in BUILT_IN for v in ("v1", "v2")}
    assert {what for what, times in measured.items() if times == 2} == {("reasoning", "v2")}
    assert {c.version for c in read_summary(shell.wp.state.runs).decision.candidates if c.rank} == {"v1", "v2"}


def test_a_dry_run_measures_nothing(shell):
    shell.wp.register("v1", competent())
    done = shell.run("milton", "autobench", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "no_verdict: a dry run decides nothing" in done.stdout
    assert shell.wp.server.requests == []
