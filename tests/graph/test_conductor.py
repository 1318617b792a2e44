"""The conductor: one run that measures, decides, bundles and deploys, whatever one bad model does."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dagster import AssetCheckKey, AssetKey, DagsterEventType, DagsterRunStatus, RunsFilter

from milton_assets.assets.evidence import CAMPAIGN_TAG
from milton_assets.campaign.choice import candidates_of
from milton_assets.campaign.one_at_a_time import only_campaign
from milton_assets.edge.release import verify_release
from milton_assets.selection.summary import read_summary, run_ids
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.registry import Quarantined, Registry
from milton_assets.vocabulary.tier import asset_of
from resources.durations import Durations
from resources.registries.json_file import add_entries, new_entry
from tests.support.targets import targets_of
from tests.support.tiers import TIERS
from tests.support.workplace import broken, clueless, competent, failure_of, workplace

pytestmark = pytest.mark.xdist_group("conducted")


@pytest.fixture(scope="module")
def conducted(tmp_path_factory):
    """The workplace of a campaign over a good, a poor and a broken model, which the tests only look at."""
    with workplace(tmp_path_factory.mktemp("conducted")) as wp:
        wp.register("good", competent())
        wp.register("poor", clueless(), seed=1)
        wp.register("bad", broken, seed=2)
        timed = Durations.read(wp.state.durations, "full")
        for tier in TIERS:
            timed.learn(tier, "another", 1000.0)
        result = wp.conduct()
        assert result.success, failure_of(result)
        yield wp


@pytest.fixture
def road(conducted):
    """That campaign's summary."""
    return read_summary(conducted.state.runs)


@pytest.mark.slow
def test_the_best_model_ends_on_the_target(conducted, road):
    assert road.decision.winner == "good"
    assert verify_release(conducted.state.bundles / road.bundle.name).ok
    assert targets_of(conducted.state).named("local").status().active.model_version == "good"


@pytest.mark.slow
def test_a_model_that_fails_every_call_is_named_with_its_errors(road):
    bad = road.decision.candidate("bad")
    assert bad.rank is None
    assert "9 of 9 requests failed" in bad.why


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["inference", "reasoning", "retrieval"])
def test_the_check_in_the_web_ui_quotes_the_server_of_a_model_that_fails(conducted, tier):
    key = AssetCheckKey(AssetKey(asset_of(tier)), f"{tier}_is_complete")
    told = [
        record.evaluation.metadata["error_examples"].value["http_status"]
        for record in conducted.instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
        if "error_examples" in record.evaluation.metadata
    ]
    assert len(told) == 1 and "500" in told[0]


@pytest.mark.slow
def test_each_child_run_carries_the_campaign_and_its_partition(conducted, road):
    children = children_of(conducted, road)
    assert len(children) == 5
    assert {(run.job_name, run.tags["dagster/partition"]) for run in children} == {
        ("benchmark_model", "good"),
        ("benchmark_model", "poor"),
        ("benchmark_model", "bad"),
        ("promote", road.run_id),
        ("deploy", "local"),
    }


@pytest.mark.slow
def test_every_run_of_a_campaign_is_where_the_uis_job_pages_and_timeline_look(conducted, road):
    listed = conducted.instance.get_runs(RunsFilter(tags={".dagster/repository": "__repository__@milton_assets"}))
    assert {run.job_name for run in listed} == {"autobench", "benchmark_model", "promote", "deploy"}
    assert len(listed) == 6
    assert {run.remote_job_origin.location_name for run in listed} == {"milton_assets"}


@pytest.mark.slow
def test_how_long_it_will_take_is_said_before_it_starts_by_what_another_profile_took(conducted, road):
    conductor = conducted.instance.get_runs(RunsFilter(job_name="autobench"))[0]
    said = [entry.user_message for entry in conducted.instance.all_logs(conductor.run_id)]
    (line,) = [one for one in said if "reckoned from what full took here (3:20:00): smoke was not timed before" in one]
    assert re.match(rf"{road.run_id}: about \d+:\d\d, reckoned", line)


@pytest.mark.slow
def test_a_child_and_its_campaign_link_to_each_other(conducted, road):
    conductor = conducted.instance.get_runs(RunsFilter(job_name="autobench"))[0]
    child = conducted.instance.get_runs(RunsFilter(job_name="benchmark_model", tags={"dagster/partition": "good"}))[0]
    for asset in ("registry_entry", "inference_metrics", "selection_decision", "edge_bundle", "deployment"):
        made = conducted.instance.fetch_materializations(AssetKey(asset), limit=1).records[0].asset_materialization
        assert made.metadata["campaign"].value == conductor.run_id
    logs = [entry.dagster_event for entry in conducted.instance.all_logs(child.run_id) if entry.dagster_event]
    said = f"part of the campaign {road.run_id}"
    assert [event.message for event in logs].count(said) == 2 and logs[-1].message == said
    assert logs[-1].engine_event_data.metadata["campaign"].value == conductor.run_id


@pytest.mark.slow
def test_the_campaigns_page_has_a_bar_for_every_child_and_says_how_far_it_is(conducted, road):
    conductor = conducted.instance.get_runs(RunsFilter(job_name="autobench"))[0]
    told = [said for said in engine_events(conducted, conductor.run_id) if said.step_key == "conduct"]
    begun = [said.engine_event_data.marker_start for said in told if said.engine_event_data.marker_start]
    ended = [said.engine_event_data.marker_end for said in told if said.engine_event_data.marker_end]
    assert begun == ended
    assert begun[-2:] == [f"promote of {road.run_id}", "deploy of local"]
    tiers = len(TIERS)
    assert told[0].message == f"{begun[0]} begins; 0 of {3 * tiers} measurements are done"
    linked = {said.engine_event_data.metadata["run"].value for said in told}
    assert linked == {run.run_id for run in children_of(conducted, road)}


@pytest.mark.slow
def test_the_campaigns_result_tells_the_verdict_and_links_to_what_came_of_it(conducted, road):
    conductor = conducted.instance.get_runs(RunsFilter(job_name="autobench"))[0]
    (output,) = (
        entry.dagster_event.event_specific_data.metadata
        for entry in conducted.instance.all_logs(conductor.run_id, of_type=DagsterEventType.STEP_OUTPUT)
    )
    assert output["verdict"].value == "promote good"
    assert output["reason 1"].value == road.decision.reasons[0]
    addresses = {name: output[name].value for name in ("decision", "bundle", "deployment on local")}
    assert addresses == {
        "decision": f"/assets/selection_decision?view=partitions&partition={road.run_id}",
        "bundle": f"/assets/edge_bundle?view=partitions&partition={road.run_id}",
        "deployment on local": "/assets/deployment?view=partitions&partition=local",
    }


def engine_events(wp, run_id):
    logs = wp.instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT)
    return [entry.dagster_event for entry in logs if entry.dagster_event.engine_event_data.metadata]


def children_of(wp, road):
    runs = wp.instance.get_runs(RunsFilter(tags={"milton/campaign": road.run_id}))
    return [run for run in runs if run.job_name != "autobench"]


@pytest.mark.slow
def test_what_the_launchpad_sets_reaches_the_children(wp):
    wp.register("v1", broken)
    told = {"base_url": wp.server.base_url, "slots": 3, "threads": 2}
    wp.conduct({"resources": {"model_server": {"config": told}}})
    child = wp.instance.get_runs(RunsFilter(job_name="benchmark_model"))
    assert [run.run_config["resources"]["model_server"] for run in child] == [{"config": told}]


@pytest.mark.slow
def test_a_model_whose_run_fails_fails_alone(wp):
    wp.register("good", competent())
    lost = wp.register("v1", competent(), seed=1)
    whole = lost.read_bytes()

    def vanishing(body):
        if lost.stat().st_size == len(whole):
            lost.write_bytes(whole + b"x")  # the file changes while it is measured
        return competent()(body)

    wp.behaviours["v1"] = vanishing
    result = wp.conduct()
    assert result.success, failure_of(result)
    summary = read_summary(wp.state.runs)
    statuses = {
        run.tags["dagster/partition"]: run.status
        for run in wp.instance.get_runs(RunsFilter(job_name="benchmark_model"))
    }
    assert statuses == {"good": DagsterRunStatus.SUCCESS, "v1": DagsterRunStatus.FAILURE}
    assert summary.decision.winner == "good"


@pytest.mark.slow
def test_when_no_model_is_good_enough_the_run_is_green_and_nothing_is_deployed(wp):
    wp.register("poor", clueless())
    result = wp.conduct()
    assert result.success, failure_of(result)
    summary = read_summary(wp.state.runs)
    assert summary.decision.verdict == "reject"
    assert (summary.bundle, summary.deployments) == (None, ())
    assert not wp.state.deployments.exists()


def test_a_dry_run_says_skipped_and_leaves_nothing(wp, capfd):
    wp.register("good", competent())
    result = wp.conduct({"ops": {"conduct": {"config": {"dry_run": True}}}})
    assert result.success, failure_of(result)
    said = capfd.readouterr().out
    assert "ttft_ms.median               skipped (dry run)" in said
    assert "cove_pass_rate" in said
    assert "no_verdict: a dry run decides nothing" in said
    assert run_ids(wp.state.runs) == ()
    assert wp.instance.get_dynamic_partitions("model_versions") == []
    assert wp.server.requests == []


def test_profile_and_policy_of_the_launchpad_go_before_the_settings(wp, capfd):
    wp.register("good", competent())
    told = {"dry_run": True, "profile": "FULL", "policy": "anchored"}
    assert wp.conduct({"ops": {"conduct": {"config": told}}}).success
    assert "dry run, profile full, policy anchored" in capfd.readouterr().out


def test_a_dry_run_over_many_models_is_no_flood(wp, capfd):
    file = wp.register("good", competent())
    entry = new_entry("org/base", gguf=str(file.relative_to(wp.state.root)))
    add_entries(wp.state.registry, {f"m{number:03}": entry for number in range(300)})
    result = wp.conduct({"ops": {"conduct": {"config": {"dry_run": True}}}})
    assert result.success, failure_of(result)
    said = capfd.readouterr().out
    assert "of 301 candidates:" in said
    assert "and 251 more" in said
    assert len(said.splitlines()) < 300


def test_an_empty_registry_says_what_to_do(wp):
    wp.write_registry({})
    result = wp.conduct()
    assert not result.success
    assert "milton registry add" in failure_of(result)


def test_a_registry_of_nothing_but_bad_entries_names_them(wp):
    wp.write_registry({"v1": {"status": 3}})
    result = wp.conduct()
    assert "quarantined: v1" in failure_of(result)


def test_what_bad_entries_are_called_does_nothing_to_a_terminal():
    bad = Quarantined("v1\x1b[2J", "status is '\x1b]0;title\x07'")
    current = Registry({}, (bad,), sha256="0" * 64, read_at=datetime.now(UTC))
    with pytest.raises(BadInput) as refused:
        candidates_of(current, "file:///models\x1b[2J")
    assert "file:///models\\x1b[2J has no candidates (quarantined: v1\\x1b[2J: status is" in str(refused.value)
    assert "\x1b" not in str(refused.value)


def test_two_campaigns_at_once_are_refused(tmp_path):
    lock = tmp_path / "campaign.lock"
    with only_campaign(lock), pytest.raises(MiltonError, match="another campaign is running"), only_campaign(lock):
        pass


def test_a_campaign_of_the_daemons_is_waited_for_or_refused_by_name(wp):
    wp.register("v1", competent())
    theirs = wp.instance.create_run_for_job(
        wp.defs.resolve_job_def("benchmark_model"),
        status=DagsterRunStatus.STARTED,
        tags={CAMPAIGN_TAG: "benchmark_20260101_000000", "dagster/partition": "v1"},
    )
    assert "the daemon's campaign benchmark_20260101_000000 has 1 models to measure" in failure_of(wp.conduct())
    wp.instance.report_run_canceled(theirs)


def test_a_campaign_that_was_killed_holds_no_lock(tmp_path):
    lock = tmp_path / "campaign.lock"
    code = (
        "import os, signal; from pathlib import Path; from milton_assets.campaign.one_at_a_time import only_campaign\n"
        f"with only_campaign(Path({str(lock)!r})): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    with only_campaign(lock):
        assert lock.read_text()


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from dagster import DagsterEventType
from tests.support.workplace import competent, workplace

FAILED, CANCELED = DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_CANCELED

def interrupting(body):
    os.kill(os.getpid(), signal.SIGINT)
    return competent()(body)

with workplace(Path(sys.argv[1])) as wp:
    wp.register("v1", interrupting)
    wp.register("v2", competent(), seed=1)
    try:
        print("success", wp.conduct().success)
    except BaseException as error:
        print("raised", type(error).__name__)
    print("children", [run.tags["dagster/partition"] for run in wp.instance.get_runs() if run.job_name != "autobench"])
    print("summaries", list(wp.state.runs.glob("*")))
    told = [
        entry.dagster_event.event_specific_data.error
        for run in wp.instance.get_runs()
        for entry in wp.instance.all_logs(run.run_id, of_type={FAILED, CANCELED})
    ]
    print("told", {error.message for error in told}, "stacks", [error.stack for error in told if error.stack])
"""


@pytest.mark.slow
def test_an_interrupt_ends_the_campaign_and_not_only_its_model(tmp_path):
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)], capture_output=True, text=True, cwd=root, check=False
    )
    assert "children ['v1']" in done.stdout, done.stderr
    assert "summaries []" in done.stdout
    assert "success True" not in done.stdout
    assert "told {'interrupted; what was measured is kept'} stacks []" in done.stdout
