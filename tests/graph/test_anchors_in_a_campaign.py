"""The best that was deployed, in the graph: in a new environment it is measured again by itself, once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from dagster import AssetKey, RunRequest, RunsFilter

from milton_assets.assets.evidence import AGAIN_TAG, ANCHOR_TAG, CAMPAIGN_TAG
from milton_assets.campaign.runs import new_run_id
from milton_assets.selection.replay import decide_again
from milton_assets.selection.summary import RunSummary, read_summary
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.named_weights import NamedWeights
from resources.evidence_store import EvidenceStore
from tests.support.scripted_server import answer
from tests.support.tiers import TIERS
from tests.support.workplace import BUILD, Workplace, competent, failure_of, workplace

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("anchors"), pytest.mark.timeout(600)]


def slow():
    """As good as a competent model, and ten times slower."""
    quick = competent()

    def reply(body):
        return answer("a ", "b ", "c ", "d", first_delay_s=0.03, delay_s=0.03) if body.get("stream") else quick(body)

    return reply


@dataclass
class Road:
    """Decisions in a row, how often the anchor was asked for by then, and what the sensor asked for."""

    wp: Workplace
    named: NamedWeights
    lost: RunSummary
    found: RunSummary
    after: RunSummary
    counts: list[int]
    lacking: RunSummary
    again: RunSummary
    asked: list[RunRequest]


def conduct(wp, **told):
    result = wp.conduct({"ops": {"conduct": {"config": told}}} if told else None)
    assert result.success, failure_of(result)
    return read_summary(wp.state.runs)


def decide(wp, run_id, tags):
    assert wp.run("promote", run_id, tags=tags).success
    return read_summary(wp.state.runs, run_id)


def asked_by_the_daemon(wp):
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    return wp.ask("promote_when_measured", yesterday).run_requests


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    """`v1` was deployed by a server of build 1, then the faster `v2`. Three campaigns by build 2, one tier alone: for
    the first of them `v1` is nowhere any more, for the others in bundles. Then it is registered again, as retired, and
    a daemon leads a campaign by build 3."""
    with pytest.MonkeyPatch.context() as patch, workplace(tmp_path_factory.mktemp("anchors")) as wp:
        patch.setenv(BUILD, "1")
        file = wp.register("v1", slow())
        named = NamedWeights("v1", sha256_file(file))
        assert conduct(wp).decision.winner == "v1"
        wp.register("v2", competent(), seed=1)
        assert conduct(wp, only=["v2"]).decision.winner == "v2"
        wp.defs.resources["registry"].store().retire("v1")
        with_v1 = json.loads(wp.state.registry.read_text())["models"]

        patch.setenv(BUILD, "2")
        wp.write_registry({"v2": with_v1["v2"]})
        away = [file, *wp.state.bundles.rglob("*.gguf"), *wp.state.deployments.rglob("*.gguf")]
        away = [path for path in away if sha256_file(path) == named.sha256]
        for path in away:
            path.rename(path.with_suffix(".away"))
        summaries, counts = [], []
        for _ in range(3):
            summaries.append(conduct(wp, tiers=["retrieval"]))
            counts.append(len(runs_of(wp, named.anchor_key)))
            for path in wp.state.bundles.rglob("*.away"):
                path.rename(path.with_suffix(".gguf"))

        patch.setenv(BUILD, "3")
        file.with_suffix(".away").rename(file)
        wp.write_registry(with_v1)
        campaign = new_run_id(wp.instance)
        tags, one_tier = {CAMPAIGN_TAG: campaign}, [AssetKey("registry_entry"), AssetKey("retrieval_metrics")]
        assert wp.run("benchmark_model", "v2", tags=tags, assets=one_tier).success
        lacking = decide(wp, campaign, tags)
        asked = asked_by_the_daemon(wp)
        for one in asked:
            assert wp.run(one.job_name, str(one.partition_key), tags=one.tags, assets=one.asset_selection).success
        (promote,) = asked_by_the_daemon(wp)
        again = decide(wp, str(promote.partition_key), promote.tags)
        assert not asked_by_the_daemon(wp)
        yield Road(wp, named, *summaries, counts, lacking, again, [*asked, promote])


def runs_of(wp, partition):
    return wp.instance.get_runs(RunsFilter(job_name="benchmark_model", tags={"dagster/partition": partition}))


def test_a_campaign_in_a_new_environment_measures_the_anchor_again(road):
    (again,) = road.found.manifest.anchors
    assert (again.version, again.artefact_sha256, again.missing) == ("v1", road.named.sha256, None)
    assert {(pin.model_version, pin.tier) for pin in again.pins} == {(road.named.anchor_key, "retrieval")}
    assert set(again.pins) <= set(road.found.manifest.pins())
    note = next(note for note in road.found.decision.notes if note.startswith("challengers are held to v1"))
    assert "server.build: '2' against '1'" in note


def test_it_is_no_candidate_and_the_tables_of_before_stay_pinned(road):
    assert [report.version for report in road.found.decision.candidates] == ["v2"]
    anchor = road.found.decision.ledger.anchor("retrieval", "nDCG@10")
    assert anchor.version == "v1"
    assert anchor.tables[0].run_id < anchor.tables[1].run_id == road.found.run_id


def test_the_next_campaign_there_does_not_measure_it(road):
    assert road.counts == [1, 2, 2]
    assert road.after.manifest.anchors == ()
    assert road.after.decision.ledger.anchors == road.found.decision.ledger.anchors


def test_weights_that_are_nowhere_are_named_with_where_they_were_looked_for(road):
    (lost,) = road.lost.manifest.anchors
    assert lost.pins == ()
    assert f"the weights of v1, {road.named.sha256}, can be had nowhere" in lost.missing
    assert str(road.wp.state.bundles) in lost.missing
    assert any("as it answered in another environment" in note for note in road.lost.decision.notes)


def test_under_a_daemon_it_is_measured_after_the_decision_that_lacked_it_and_decided_again(road):
    measure, promote = road.asked
    assert (measure.job_name, measure.partition_key) == ("benchmark_model", road.named.anchor_key)
    assert measure.tags[ANCHOR_TAG] == f"v1@{road.named.sha256}"
    assert (promote.job_name, promote.tags[AGAIN_TAG]) == ("promote", road.lacking.run_id)
    assert "was not measured" in road.lacking.manifest.anchors[0].missing
    assert road.again.manifest.anchors[0].missing is None


def test_every_decision_is_repeated_byte_for_byte(road):
    store = EvidenceStore(road.wp.state.benchmarks)
    for summary in (road.lost, road.found, road.after, road.lacking, road.again):
        again = decide_again(store.read_bytes, summary, summary.decision.policy, TIERS)
        assert again.to_json() == summary.decision.to_json()
