"""The daemon's way: each entry is benchmarked once, a campaign is decided once, a bundle is deployed once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from dagster import (
    AssetCheckSeverity,
    DagsterEvent,
    DagsterRunStatus,
    RunRequest,
    build_schedule_context,
)
from dagster._core.events import RunFailureReason

from milton_assets.assets.evidence import AGAIN_TAG, ANCHOR_TAG, CAMPAIGN_TAG, CONDUCTED_TAG
from milton_assets.campaign.one_at_a_time import only_campaign
from milton_assets.definitions import build_defs
from milton_assets.edge.serving.health_journal import EventKind, HealthEvent, HealthJournal
from milton_assets.fleet.target import DeployRequest
from milton_assets.selection.summary import read_summary
from milton_assets.sensors.registered import LOST_AT_MOST, MAX_REQUESTS
from milton_assets.settings import load_settings
from milton_assets.vocabulary.keys import check_run_id
from milton_assets.vocabulary.named_weights import NamedWeights
from resources.campaign import Campaign
from resources.registries.json_file import add_entries, new_entry
from tests.support.edge_bundles import make_bundle
from tests.support.gguf_file import tiny_gguf
from tests.support.targets import targets_of
from tests.support.workplace import broken, clueless, competent


def tick(wp, cursor=None):
    return wp.ask("registry_sensor", cursor)


def look(wp, sensor_name, cursor=None):
    """What a sensor of the road makes of what there is; it looked yesterday, or at the time of `cursor`."""
    return wp.ask(sensor_name, cursor or (datetime.now(UTC) - timedelta(days=1)).isoformat())


class TestRegistry:
    def test_a_new_entry_becomes_a_partition_and_a_run(self, wp):
        wp.register("v1", competent())
        data = tick(wp)
        assert [r.partition_key for r in data.run_requests] == ["v1"]
        assert [r.partition_keys for r in data.dynamic_partitions_requests] == [["v1"]]

    def test_the_second_tick_asks_for_nothing(self, wp):
        wp.register("v1", competent())
        first = tick(wp)
        second = tick(wp, first.cursor)
        assert not second.run_requests
        assert "no new or changed entry" in second.skip_message

    def test_an_entry_whose_file_changed_runs_again_under_another_run_key(self, wp):
        path = wp.register("v1", competent())
        first = tick(wp)
        tiny_gguf(path, seed=9)
        second = tick(wp, first.cursor)
        assert [r.partition_key for r in second.run_requests] == ["v1"]
        assert first.run_requests[0].run_key != second.run_requests[0].run_key

    def test_an_entry_that_changes_back_runs_again(self, wp):
        path = wp.register("v1", competent())
        raw = path.read_bytes()
        ticks = [tick(wp)]
        for seed in (9, None):
            path.write_bytes(raw) if seed is None else tiny_gguf(path, seed=seed)
            ticks.append(tick(wp, ticks[-1].cursor))
        assert len({r.run_key for data in ticks for r in data.run_requests}) == 3

    @pytest.mark.slow
    def test_an_entry_that_changes_back_after_somebody_benchmarked_the_change_runs_again(self, measured):
        path = measured.artefact("good")
        benchmarked = path.read_bytes()
        tiny_gguf(path, seed=9)
        first = tick(measured)
        assert [r.partition_key for r in first.run_requests] == ["good"]
        path.write_bytes(benchmarked)
        second = tick(measured, first.cursor)
        assert not second.run_requests
        tiny_gguf(path, seed=9)
        assert [r.partition_key for r in tick(measured, second.cursor).run_requests] == ["good"]

    @pytest.mark.slow
    def test_damaged_evidence_of_one_entry_blocks_no_other(self, measured):
        for path in (measured.state.benchmarks / "registry_entry" / "good").iterdir():
            path.write_bytes(b"damaged")
        measured.register("v2", competent(), seed=1)
        assert [r.partition_key for r in tick(measured).run_requests] == ["v2"]

    def test_in_a_dry_run_it_says_what_it_would_request_and_forgets_it(self, dry):
        dry.register("v1", competent())
        data = tick(dry)
        assert (data.run_requests, data.cursor) == ([], None)
        assert "v1 would be benchmarked" in data.skip_message

    def test_a_bad_entry_blocks_no_other(self, wp):
        wp.register("v1", competent())
        document = json.loads(wp.state.registry.read_text())
        document["models"] = {"broken": {"status": 3}, "../up": {}, **document["models"]}
        wp.state.registry.write_text(json.dumps(document))
        assert [r.partition_key for r in tick(wp).run_requests] == ["v1"]

    def test_entries_of_one_tick_share_a_campaign(self, wp):
        for seed, version in enumerate(("v1", "v2")):
            wp.register(version, competent(), seed=seed)
        campaigns = {r.tags[CAMPAIGN_TAG] for r in tick(wp).run_requests}
        assert len(campaigns) == 1
        check_run_id(campaigns.pop())

    def test_a_retired_entry_is_left_alone(self, wp):
        wp.register("v1", competent())
        document = json.loads(wp.state.registry.read_text())
        document["models"]["v1"]["status"] = "retired"
        wp.state.registry.write_text(json.dumps(document))
        assert not tick(wp).run_requests

    @pytest.mark.slow
    def test_what_was_benchmarked_by_hand_is_not_new(self, measured):
        assert not tick(measured).run_requests
        tiny_gguf(measured.artefact("good"), seed=9)
        assert [r.partition_key for r in tick(measured).run_requests] == ["good"]

    def test_of_many_new_entries_a_tick_asks_for_some_and_the_next_for_the_others(self, wp):
        file = wp.register("v1", competent())
        entry = new_entry("org/base", gguf=str(file.relative_to(wp.state.root)))
        add_entries(wp.state.registry, {f"m{number:03}": entry for number in range(MAX_REQUESTS + 4)})
        first = tick(wp)
        second = tick(wp, first.cursor)
        asked = [{request.partition_key for request in data.run_requests} for data in (first, second)]
        assert [len(each) for each in asked] == [MAX_REQUESTS, 5]
        assert asked[0].isdisjoint(asked[1])
        assert not tick(wp, second.cursor).run_requests

    def failed(self, wp, version, *, tags=None, ago_s=3600.0):
        """A `benchmark_model` run that failed that long ago, as its tags have it."""
        long_ago = datetime.now(UTC) - timedelta(seconds=ago_s)
        job = wp.defs.resolve_job_def("benchmark_model")
        run = wp.instance.create_run_for_job(
            job, status=DagsterRunStatus.STARTED, tags={"dagster/partition": version, **(tags or {})}
        )
        failure = DagsterEvent.job_failure("benchmark_model", "the worker is gone", RunFailureReason.UNKNOWN)
        wp.instance.run_storage.handle_run_event(run.run_id, failure, long_ago)
        return run

    def test_a_candidate_whose_run_was_lost_with_its_worker_is_asked_for_again(self, wp):
        wp.register("v1", competent())
        first = tick(wp)
        self.failed(wp, "v1")
        second = tick(wp, first.cursor)
        assert [r.partition_key for r in second.run_requests] == ["v1"]
        assert second.run_requests[0].run_key != first.run_requests[0].run_key

    @pytest.mark.parametrize(
        ("tags", "ago_s"),
        [
            ({"dagster/failure_reason": "STEP_FAILURE"}, 3600.0),
            ({"dagster/will_retry": "true"}, 3600.0),
            ({CONDUCTED_TAG: "x"}, 3600.0),
            ({}, 60.0),
        ],
        ids=["its model failed", "the daemon starts it again", "the conductor's", "just now"],
    )
    def test_others_are_not_asked_for_again(self, wp, tags, ago_s):
        wp.register("v1", competent())
        first = tick(wp)
        self.failed(wp, "v1", tags=tags, ago_s=ago_s)
        assert not tick(wp, first.cursor).run_requests

    def test_a_candidate_that_was_lost_too_often_is_left_to_a_person(self, wp):
        wp.register("v1", competent())
        first = tick(wp)
        for _ in range(LOST_AT_MOST):
            self.failed(wp, "v1")
        assert not tick(wp, first.cursor).run_requests

    def test_while_somebody_conducts_a_campaign_nothing_is_asked_for_and_nothing_forgotten(self, wp):
        wp.register("v1", competent())
        with only_campaign(wp.state.campaign_lock):
            data = tick(wp)
        assert (data.run_requests, data.cursor) == ([], None)
        assert "asked for when the campaign is over" in data.skip_message
        assert [r.partition_key for r in tick(wp).run_requests] == ["v1"]

    def test_without_a_registry_there_is_nothing_to_do(self, wp):
        assert "registry" in tick(wp).skip_message


class TestPromote:
    def of_campaign(self, wp, version, campaign="benchmark_20260101_000000", **more):
        return wp.run("benchmark_model", version, tags={CAMPAIGN_TAG: campaign, **more})

    @pytest.fixture
    def last(self, measured, measured_once):
        """The run that measured the good model, as one of a campaign that ended just now."""
        measured.instance.add_run_tags(measured_once.result.run_id, {CAMPAIGN_TAG: "benchmark_20260101_000000"})
        return measured_once.result

    @pytest.mark.slow
    def test_the_last_tier_of_a_campaign_requests_its_decision(self, measured, last):
        asked = look(measured, "promote_when_measured")
        assert [(r.partition_key, r.run_key) for r in asked.run_requests] == [("benchmark_20260101_000000",) * 2]

    @pytest.mark.slow
    def test_a_failed_model_lets_the_campaign_be_decided_too(self, wp):
        wp.register("v1", broken).unlink()
        self.of_campaign(wp, "v1")
        asked = look(wp, "promote_when_measured")
        assert [r.partition_key for r in asked.run_requests] == ["benchmark_20260101_000000"]

    @pytest.mark.slow
    def test_a_campaign_waits_for_its_other_models(self, measured, last):
        measured.instance.create_run_for_job(
            measured.defs.resolve_job_def("benchmark_model"),
            status=DagsterRunStatus.STARTED,
            tags={CAMPAIGN_TAG: "benchmark_20260101_000000", "dagster/partition": "v2"},
        )
        asked = look(measured, "promote_when_measured")
        assert not asked.run_requests
        assert "still has 1 models" in asked.skip_message

    def test_an_anchor_is_measured_on_reference_devices_as_the_weights_that_it_is(self, wp):
        """An anchor's partition is no version of the registry: who measures it has to be told which weights it is."""
        campaign_id, anchor = "benchmark_20260101_000000", NamedWeights("v1", "a" * 64)
        wp.instance.add_dynamic_partitions("model_versions", [anchor.anchor_key])
        wp.instance.create_run_for_job(
            wp.defs.resolve_job_def("benchmark_model"),
            status=DagsterRunStatus.SUCCESS,
            tags={CAMPAIGN_TAG: campaign_id, ANCHOR_TAG: str(anchor), "dagster/partition": anchor.anchor_key},
        )
        settings = {
            "targets": {"pi": {"at": "/srv/pi", "class": "pi5"}},
            "device_classes": {"pi5": {"reference": "pi"}},
        }
        wp.state.root.mkdir(parents=True, exist_ok=True)
        (wp.state.root / "milton.yaml").write_text(json.dumps(settings))
        wp.defs = build_defs(
            environment={"MILTON_STATE_DIR": str(wp.state.root)},
            overrides={key: wp.defs.resources[key] for key in ("model_server", "edge_runtime")},
        )
        (asked,) = look(wp, "promote_when_measured").run_requests
        assert (asked.job_name, str(asked.partition_key)) == ("benchmark_on_class", f"pi5|{anchor.anchor_key}")
        assert asked.tags[ANCHOR_TAG] == str(anchor)

    @pytest.mark.slow
    def test_a_campaign_waits_for_a_failed_run_that_will_be_started_again(self, measured, last):
        campaign = {CAMPAIGN_TAG: "benchmark_20260101_000000"}
        lost = measured.instance.create_run_for_job(
            measured.defs.resolve_job_def("benchmark_model"),
            status=DagsterRunStatus.FAILURE,
            tags={**campaign, "dagster/partition": "v2", "dagster/will_retry": "true"},
        )
        asked = look(measured, "promote_when_measured")
        assert "still has 1 models" in asked.skip_message
        measured.instance.add_run_tags(lost.run_id, {"dagster/auto_retry_run_id": "the retry"})
        asked = look(measured, "promote_when_measured")
        assert [r.partition_key for r in asked.run_requests] == ["benchmark_20260101_000000"]

    @pytest.mark.slow
    def test_a_model_that_was_measured_after_the_decision_is_decided_on_under_an_id_of_its_own(self, wp):
        wp.register("v1", clueless())
        self.of_campaign(wp, "v1")
        decided = "benchmark_20260101_000000"
        wp.run("promote", decided)
        wp.register("v2", competent(), seed=1)
        self.of_campaign(wp, "v2")
        (asked,) = look(wp, "promote_when_measured").run_requests
        again = str(asked.partition_key)
        assert (asked.job_name, check_run_id(again) > decided) == ("promote", True)
        assert asked.tags.items() >= {CAMPAIGN_TAG: again, AGAIN_TAG: decided}.items()
        assert wp.run("promote", again, tags=asked.tags).success
        assert read_summary(wp.state.runs, again).decision.winner == "v2"
        assert read_summary(wp.state.runs, decided).decision.winner is None
        assert not look(wp, "promote_when_measured").run_requests

    @pytest.mark.slow
    def test_reference_devices_are_measured_on_before_every_class_is_decided_for(self, measured, last, tmp_path):
        settings = {"targets": {"here": str(tmp_path / "here"), "pi": {"at": str(tmp_path / "pi"), "class": "pi5"}}}
        settings["device_classes"] = {"local": {}, "pi5": {"reference": "pi"}}
        (measured.state.root / "milton.yaml").write_text(json.dumps(settings))
        measured.defs = build_defs(
            environment={
                "MILTON_STATE_DIR": str(measured.state.root),
                "MILTON_PROFILE": "smoke",
                "MILTON_POLICY": "smoke",
            },
            overrides={key: measured.defs.resources[key] for key in ("model_server", "edge_runtime")},
        )
        asked = look(measured, "promote_when_measured")
        assert [(r.job_name, str(r.partition_key)) for r in asked.run_requests] == [("benchmark_on_class", "pi5|good")]
        place = {
            f"dagster/partition/{name}": key
            for name, key in asked.run_requests[0].partition_key.keys_by_dimension.items()
        }
        measured.instance.create_run_for_job(
            measured.defs.resolve_job_def("benchmark_on_class"),
            status=DagsterRunStatus.SUCCESS,
            tags={**asked.run_requests[0].tags, **place},
        )
        asked = look(measured, "promote_when_measured")
        campaign = "benchmark_20260101_000000"
        assert [(r.job_name, r.partition_key) for r in asked.run_requests] == [
            ("promote", campaign),
            ("promote", f"{campaign}.pi5"),
        ]

    @pytest.mark.slow
    def test_a_decided_campaign_is_not_decided_again(self, measured, last):
        measured.run("promote", "benchmark_20260101_000000")
        asked = look(measured, "promote_when_measured")
        assert "decided already" in asked.skip_message

    @pytest.mark.slow
    def test_a_tick_that_came_to_nothing_loses_no_campaign(self, measured, last):
        before = datetime.now(UTC).isoformat()
        for _ in range(2):
            assert look(measured, "promote_when_measured", cursor=before).run_requests

    @pytest.mark.slow
    def test_the_conductors_children_are_left_to_the_conductor(self, measured, last):
        measured.instance.add_run_tags(last.run_id, {CONDUCTED_TAG: "x"})
        asked = look(measured, "promote_when_measured")
        assert not asked.run_requests


class TestDeploy:
    @pytest.mark.slow
    def test_a_bundle_goes_to_every_target_once(self, measured):
        measured.run("promote", "benchmark_20260101_000000")
        asked = look(measured, "deploy_when_bundled")
        request = asked.run_requests[0]
        assert isinstance(request, RunRequest)
        assert "dagster-celery/queue" not in request.tags
        assert (request.partition_key, request.run_key) == ("local", "benchmark_20260101_000000:local")
        key = {"dagster/run_key": request.run_key}
        assert measured.run("deploy", "local", config=request.run_config, tags=key).success
        assert not look(measured, "deploy_when_bundled").run_requests

    @pytest.mark.slow
    def test_a_rejection_deploys_nothing(self, wp):
        wp.register("v1", clueless())
        wp.run("benchmark_model", "v1")
        wp.run("promote", "benchmark_20260101_000000")
        asked = look(wp, "deploy_when_bundled")
        assert "promoted nothing" in asked.skip_message


class TestQueues:
    def test_runs_go_to_the_queue_of_their_target_else_of_their_job(self, wp):
        campaign = Campaign.from_settings(
            load_settings({"MILTON_STATE_DIR": str(wp.state.root)}).model_copy(
                update={"queues": {"deploy": "edge-box", "kitchen": "kitchen-box"}}
            )
        )
        assert campaign.queue_tags("deploy", "cellar") == {"dagster-celery/queue": "edge-box"}
        assert campaign.queue_tags("deploy", "kitchen") == {"dagster-celery/queue": "kitchen-box"}
        assert campaign.queue_tags("promote") == {}


class TestHealth:
    @pytest.mark.slow
    def test_a_target_that_needs_a_person_is_asked_and_its_check_fails_with_what_it_said(self, wp):
        target = targets_of(wp.state).named("local")
        unwatched = DeployRequest(actor="ada", load_test=False, health_rounds=0)
        target.deploy(make_bundle(wp.state.bundles, "v1"), unwatched)
        (request,) = wp.ask("look_after_devices").run_requests
        assert request.partition_key == "local"
        assert request.run_key.startswith("health:local:")
        (well,) = wp.run("look_after", "local").get_asset_check_evaluations()
        assert well.passed
        said = "the disk is full: 1 MiB are free, at least 64 MiB should be"
        event = HealthEvent(at=datetime.now(UTC), kind=EventKind.ALARM, said=said, needs_person=True)
        assert HealthJournal(target.place.path / "health.jsonl").write(event)
        (ill,) = wp.run("look_after", "local").get_asset_check_evaluations()
        assert (ill.passed, ill.severity) == (False, AssetCheckSeverity.ERROR)
        assert said in str(ill.metadata["problems"].value)


class TestSchedule:
    def tick(self, wp):
        schedule = wp.defs.resolve_schedule_def("every_six_hours")
        assert schedule.cron_schedule == "0 */6 * * *"
        context = build_schedule_context(
            instance=wp.instance,
            repository_def=wp.defs.get_repository_def(),
            resources={key: wp.defs.resources[key] for key in ("registry", "campaign")},
        )
        return schedule.evaluate_tick(context)

    def test_every_six_hours_every_candidate_is_measured_again(self, wp):
        for seed, version in enumerate(("v1", "v2")):
            wp.register(version, competent(), seed=seed)
        data = self.tick(wp)
        assert [r.partition_key for r in data.run_requests] == ["v1", "v2"]
        assert len({r.tags[CAMPAIGN_TAG] for r in data.run_requests}) == 1

    def test_without_candidates_it_skips(self, wp):
        wp.write_registry({})
        assert "no candidates" in self.tick(wp).skip_message
