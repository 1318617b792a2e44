"""The jobs one by one: what they store, what stands between them, and what they refuse."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from dagster import AssetKey, AssetRecordsFilter

from milton_assets.assets.deployments import WINDOWS
from milton_assets.edge.bundle.keys import init_keys
from milton_assets.edge.deployment.admission import DevicePolicy, write_device_policy
from milton_assets.edge.deployment.layout import POLICY_FILE
from milton_assets.edge.manifest import SUMMARY_FILE
from milton_assets.edge.release import verify_release
from milton_assets.fleet.canaries import field_verdict, keep
from milton_assets.selection.decision import Verdict
from milton_assets.selection.summary import read_summary
from milton_assets.vocabulary.beside import Beside
from milton_assets.vocabulary.digest import sha256_bytes, sha256_file
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.tier import TierResult, asset_of
from resources.campaign import Profile
from resources.evidence_store import EvidenceStore
from tests.support.canaries import canary_told
from tests.support.gguf_file import tiny_gguf
from tests.support.targets import targets_of
from tests.support.tiers import BUILT_IN, TIERS
from tests.support.workplace import clueless, competent, failure_of

RUN = "benchmark_20260101_000000"
NEXT = "benchmark_20260101_060000"
NOW = datetime(2026, 1, 12, tzinfo=UTC)


def events_of(wp, asset, partition):
    wanted = AssetRecordsFilter(asset_key=AssetKey(asset), asset_partitions=[partition])
    return wp.instance.fetch_materializations(wanted, limit=10).records


class TestBenchmarkModel:
    @pytest.mark.slow
    def test_each_tier_keeps_its_samples_metrics_and_environment(self, measured):
        store = EvidenceStore(measured.state.benchmarks)
        for tier in BUILT_IN:
            result = TierResult.from_table(store.latest(asset_of(tier), "good").read())
            assert result.tier == tier
            # The scripted server tells no probabilities, which is all that fidelity is about.
            assert len(result.samples) > 0 or {m.status for m in result.metrics} == {Status.SKIPPED}
            assert result.provenance["fingerprint"]["server"]["name"] == "scripted"

    @pytest.mark.slow
    def test_the_data_version_is_the_digest_of_the_table(self, measured):
        for tier in BUILT_IN:
            materialization = events_of(measured, asset_of(tier), "good")[0].asset_materialization
            assert materialization.tags["dagster/data_version"] == materialization.metadata["sha256"].value

    @pytest.mark.slow
    def test_latencies_and_throughput_under_load_are_pictures_in_the_ui(self, measured):
        metadata = events_of(measured, "inference_metrics", "good")[0].asset_materialization.metadata
        for name in ("latency", "throughput_latency"):
            assert metadata[name].value.startswith(f"![{name}](data:image/png;base64,")

    @pytest.mark.slow
    def test_the_checks_between_the_stages_are_recorded(self, measured_once):
        checks = {e.check_name: e.passed for e in measured_once.result.get_asset_check_evaluations()}
        # Whether times may be relied on, the machine has a say in; the check says what the table does.
        timed = TierResult.from_table(
            EvidenceStore(measured_once.root / "state" / "benchmarks").latest(asset_of("inference"), "good").read()
        )
        relied_on = all(metric.valid and metric.status is not Status.ERROR for metric in timed.metrics)
        assert checks == {
            "artefacts_can_be_loaded": True,
            **{f"{tier}_is_complete": True for tier in BUILT_IN},
            "inference_is_complete": relied_on,
        }

    def test_a_version_that_is_not_registered_is_refused(self, wp):
        wp.write_registry({})
        result = wp.run("benchmark_model", "v1")
        assert "not in the registry" in failure_of(result)

    def test_a_quarantined_entry_is_refused_with_its_reason(self, wp):
        wp.register("v1", competent()).write_bytes(b"GGUF")
        assert "quarantined" in failure_of(wp.run("benchmark_model", "v1"))


PARTITIONED = {
    "benchmark_model": ("registry_entry", *(asset_of(tier) for tier in BUILT_IN)),
    "promote": ("selection_decision", "edge_bundle"),
    "deploy": ("deployment",),
}


@pytest.mark.parametrize(("job", "asset"), [(job, asset) for job, assets in PARTITIONED.items() for asset in assets])
def test_no_asset_is_made_without_a_partition(wp, job, asset):
    wp.register("good", competent())
    result = wp.defs.resolve_job_def(job).execute_in_process(
        instance=wp.instance, asset_selection=[AssetKey(asset)], raise_on_error=False
    )
    assert not result.success
    assert "artition" in failure_of(result)
    assert result.get_asset_materialization_events() == []


class TestDryRun:
    @pytest.mark.parametrize(("job", "partition"), [("benchmark_model", "good"), ("promote", RUN), ("deploy", "local")])
    def test_a_job_makes_nothing_and_is_green(self, dry, job, partition):
        dry.register("good", competent())
        result = dry.run(job, partition)
        assert result.success, failure_of(result)
        assert result.get_asset_materialization_events() == []
        assert result.get_asset_check_evaluations() == []
        assert not any(folder.exists() for folder in (dry.state.benchmarks, dry.state.bundles, dry.state.deployments))
        assert dry.server.requests == []

    @pytest.mark.slow
    def test_a_tier_says_of_every_metric_that_it_was_skipped(self, measured):
        dry = measured.in_dry_runs()
        before = sorted(measured.state.benchmarks.rglob("*"))
        result = dry.defs.resolve_job_def("benchmark_model").execute_in_process(
            instance=dry.instance, partition_key="good", asset_selection=[AssetKey("reasoning_metrics")]
        )
        said = [record.user_message for record in dry.instance.all_logs(result.run_id)]
        assert {f"{name}: skipped (dry run)" for name, _ in TIERS["reasoning"].units()} <= set(said)
        assert sorted(measured.state.benchmarks.rglob("*")) == before


class TestPromote:
    @pytest.mark.slow
    def test_the_decision_pins_every_file_it_rests_on(self, measured, measured_once):
        measured.succeed("promote", RUN)
        summary = read_summary(measured.state.runs, RUN)
        manifest = summary.manifest
        assert summary.decision.notes == ()
        assert all(manifest.fingerprints[candidate.fingerprint_sha256] for candidate in manifest.candidates)
        store = EvidenceStore(measured.state.benchmarks)
        assert {(pin.model_version, pin.tier) for pin in manifest.pins()} == {("good", tier) for tier in BUILT_IN}
        assert all(store.digest(pin.uri) == pin.sha256 for pin in manifest.pins())
        assert {pin.dagster_run_id for pin in manifest.pins()} == {measured_once.result.run_id}

    @pytest.mark.slow
    def test_the_decision_shows_its_pictures_in_the_ui(self, measured):
        measured.succeed("promote", RUN)
        metadata = events_of(measured, "selection_decision", RUN)[0].asset_materialization.metadata
        for name in ("intervals", "pareto_front", "latency", "throughput_latency"):
            assert metadata[name].value.startswith(f"![{name}](data:image/png;base64,")

    @pytest.mark.slow
    def test_the_bundle_holds_decision_and_evidence(self, measured):
        measured.succeed("promote", RUN)
        summary = read_summary(measured.state.runs, RUN)
        bundle = measured.state.bundles / summary.bundle.name
        assert verify_release(bundle).ok
        assert json.loads((bundle / "decision.json").read_text())["winner"] == "good"
        value = measured.defs.load_asset_value("edge_bundle", instance=measured.instance, partition_key=RUN)
        manifest = json.loads((bundle / "manifest.json").read_text())
        assert value == manifest
        template = sha256_bytes(b"{{ messages }}")
        assert summary.manifest.candidate("good").lineage.template == template
        assert summary.decision.candidate("good").chat_template == manifest["chat_template_sha256"] == template

    @pytest.mark.slow
    def test_beside_a_relative_with_another_chat_template_nothing_is_promoted(self, measured):
        measured.register("v1", competent(), seed=5, template="{{ messages }}{# the answers #}")
        measured.succeed("promote", RUN)
        summary = read_summary(measured.state.runs, RUN)
        assert (summary.decision.verdict, summary.bundle) == (Verdict.NO_VERDICT, None)
        assert "is not that of its relatives v1" in summary.decision.candidate("good").why

    @pytest.mark.slow
    def test_changed_evidence_stops_the_decision(self, measured):
        file = EvidenceStore(measured.state.benchmarks).latest("reasoning_metrics", "good")
        path = measured.state.benchmarks / file.uri
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        result = measured.run("promote", RUN)
        assert not result.success
        assert "was changed" in failure_of(result)
        assert not measured.state.bundles.exists()

    @pytest.mark.slow
    def test_a_model_whose_file_changed_since_is_not_judged(self, measured):
        tiny_gguf(measured.artefact("good"), seed=77)
        measured.succeed("promote", RUN)
        report = read_summary(measured.state.runs, RUN).decision.candidate("good")
        assert "changed after it was benchmarked" in report.excluded

    @pytest.mark.slow
    def test_a_model_that_was_never_measured_is_not_judged(self, measured):
        measured.register("v1", competent(), seed=5)
        measured.succeed("promote", RUN)
        decision = read_summary(measured.state.runs, RUN).decision
        assert decision.candidate("v1").excluded == "it was never benchmarked"
        assert decision.winner == "good"

    @pytest.mark.slow
    def test_a_rejection_makes_no_bundle_and_no_failure(self, wp):
        wp.register("poor", clueless())
        wp.succeed("benchmark_model", "poor")
        wp.succeed("promote", RUN)
        assert read_summary(wp.state.runs, RUN).bundle is None
        assert events_of(wp, "edge_bundle", RUN) == []

    def test_a_partition_that_is_no_run_id_is_refused(self, wp):
        wp.write_registry({})
        assert "benchmark_YYYYMMDD_HHMMSS" in failure_of(wp.run("promote", "tuesday"))


class TestDeploy:
    @pytest.mark.slow
    def test_without_a_run_named_the_newest_bundle_is_deployed(self, measured):
        measured.succeed("promote", RUN)
        result = measured.succeed("deploy", "local")
        summary = read_summary(measured.state.runs, RUN)
        assert [d.target for d in summary.deployments] == ["local"]
        done = targets_of(measured.state).named("local").history()[-1]
        assert len(done.health) == WINDOWS[Profile.SMOKE].rounds > 1
        (check,) = [c for c in result.get_asset_check_evaluations() if c.check_name == "serves_and_is_well"]
        assert check.passed and check.metadata["serves"].value == "good"
        told = events_of(measured, "deployment", "local")[0].asset_materialization.metadata
        assert told["path"].value == done.target_path
        assert told["decision"].value == f"/assets/selection_decision?view=partitions&partition={RUN}"
        bundled = events_of(measured, "edge_bundle", RUN)[0].asset_materialization.metadata
        assert bundled["deployment on local"].value == "/assets/deployment?view=partitions&partition=local"
        assert bundled["path"].value == str(measured.state.place(summary.bundle.path))

    @pytest.mark.slow
    def test_each_stage_makes_the_page_anew_and_the_bundle_has_the_digest_of_the_page_as_decided(self, measured):
        told = []
        for job, partition in (("promote", RUN), ("deploy", "local")):
            measured.succeed(job, partition)
            summary = read_summary(measured.state.runs, RUN)
            assert sha256_file(measured.state.place(summary.report.path)) == summary.report.sha256
            told.append(measured.state.place(summary.report.path).read_text())
        assert "No target has been deployed to yet" in told[0] and "No target" not in told[1]
        assert f"{summary.deployments[0].id} on local" in told[1]
        bundled = json.loads((measured.state.place(summary.bundle.path) / SUMMARY_FILE).read_text())
        as_decided = measured.state.place(bundled["report"]["path"])
        assert sha256_file(as_decided) == bundled["report"]["sha256"]
        assert "No target has been deployed to yet" in as_decided.read_text()

    @pytest.mark.slow
    def test_whoever_is_timed_afterwards_is_timed_beside_what_serves(self, measured):
        measured.succeed("promote", RUN)
        measured.succeed("deploy", "local")
        measured.register("better", competent(), seed=1)
        measured.instance.add_dynamic_partitions("model_versions", ["better"])
        result = measured.defs.resolve_job_def("benchmark_model").execute_in_process(
            instance=measured.instance,
            partition_key="better",
            asset_selection=[AssetKey("registry_entry"), AssetKey("inference_metrics")],
        )
        assert result.success
        table = EvidenceStore(measured.state.benchmarks).latest("inference_metrics", "better").read()
        beside = Beside.of(TierResult.from_table(table).provenance)
        assert (beside.version, beside.because) == ("good", None)
        assert beside.log_ratios("ttft_ms.median")

    @pytest.mark.slow
    def test_the_next_decision_is_told_what_the_field_said_of_what_serves(self, measured):
        measured.succeed("promote", RUN)
        measured.succeed("deploy", "local")
        init_keys(measured.state.keys)
        serves = targets_of(measured.state).named("local").status().active
        told = canary_told("kitchen", "0" * 64, challenger=serves.digest, challenger_version="good")
        kept = keep(measured.state, field_verdict("kitchen", "ssh://kitchen", told, NOW))
        measured.succeed("promote", NEXT)
        summary = read_summary(measured.state.runs, NEXT)
        (reading,) = summary.decision.field
        assert (reading.finding.sha256, reading.moves) == (kept.sha256, True)
        assert reading.finding.challenger_artefact == summary.manifest.candidate("good").artefact_sha256
        assert any(note.startswith(f"the field sent good back ({told.plan.id})") for note in summary.decision.notes)
        (event, *_) = events_of(measured, "selection_decision", NEXT)
        card = event.asset_materialization.metadata["decision_card"].value
        assert "### What the field said of good" in card

    @pytest.mark.slow
    def test_how_long_a_release_is_watched_can_be_configured(self, measured):
        measured.succeed("promote", RUN)
        config = {"ops": {"deployment": {"config": {"health_rounds": 3, "health_interval_s": 0.0}}}}
        measured.succeed("deploy", "local", config=config)
        assert len(targets_of(measured.state).named("local").history()[-1].health) == 3

    @pytest.mark.slow
    def test_a_target_with_a_policy_takes_nothing_that_is_unsigned(self, measured):
        measured.succeed("promote", RUN)
        target = measured.state.deployments / "local"
        keys = init_keys(measured.state.keys)
        policy = DevicePolicy(trusted_keys=(keys.public.read_text().strip(),))
        write_device_policy(target / POLICY_FILE, policy)
        assert "bears no signature" in failure_of(measured.run("deploy", "local"))
        assert not (target / "current").exists()

    def test_without_any_bundle_it_says_so(self, wp):
        assert "holds no gguf bundle" in failure_of(wp.run("deploy", "local"))

    @pytest.mark.slow
    def test_evidence_that_no_longer_holds_stops_the_deployment(self, measured):
        measured.succeed("promote", RUN)
        pin = read_summary(measured.state.runs, RUN).manifest.pins()[0]
        (measured.state.benchmarks / pin.uri).unlink()
        result = measured.run("deploy", "local")
        assert "the file is missing" in failure_of(result)
        assert not (measured.state.deployments / "local" / "current").exists()
