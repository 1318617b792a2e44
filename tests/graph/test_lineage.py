"""OpenLineage: a catalogue is told what ran and what was made, from a real event log, over HTTP."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from dagster import DagsterRunStatus, build_run_status_sensor_context
from jsonschema import Draft202012Validator, FormatChecker

from milton_assets.definitions import build_defs
from milton_assets.lineage import NAMESPACE
from tests.support.scripted_server import Body, Status, scripted_server
from tests.support.workplace import competent

PATH = "/api/v1/lineage"
_TEXT = {"type": "string", "minLength": 1}
_FACETS = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "required": ["_producer", "_schemaURL"],
        "properties": {"_producer": _TEXT, "_schemaURL": _TEXT},
    },
}
_NAMED = {
    "type": "object",
    "required": ["namespace", "name"],
    "properties": {
        "namespace": _TEXT,
        "name": _TEXT,
        **dict.fromkeys(("facets", "inputFacets", "outputFacets"), _FACETS),
    },
}
_RUN = {
    "type": "object",
    "required": ["runId"],
    "properties": {"runId": {"type": "string", "format": "uuid"}, "facets": _FACETS},
}
ALLOWED = Draft202012Validator(
    {
        "type": "object",
        "required": ["run", "job", "eventTime", "producer", "schemaURL"],
        "properties": {
            "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
            "eventTime": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"},
            "producer": _TEXT,
            "schemaURL": _TEXT,
            "run": _RUN,
            "job": _NAMED,
            "inputs": {"type": "array", "items": _NAMED},
            "outputs": {"type": "array", "items": _NAMED},
        },
    },
    format_checker=FormatChecker(),
)
"""What a catalogue takes of an event: https://openlineage.io/spec/2-0-2/OpenLineage.json, `RunEvent`."""


def taken(event):
    """A catalogue's answer: it takes what the specification allows, and says what is wrong with the rest."""
    wrong = [error.message for error in ALLOWED.iter_errors(event)]
    return Status(422, "; ".join(wrong)) if wrong else Body({}, 201)


@pytest.fixture
def done(wp):
    """A candidate that was measured."""
    wp.register("v1", competent())
    result = wp.run("benchmark_model", "v1")
    assert result.success
    return result


def tell(wp, result, url):
    """What the sensor of finished runs does with that run."""
    told = build_defs(environment={"MILTON_STATE_DIR": str(wp.state.root), "OPENLINEAGE_URL": url})
    sensor = told.resolve_sensor_def("openlineage_success")
    context = build_run_status_sensor_context(
        sensor_name=sensor.name,
        dagster_event=next(event for event in result.all_events if event.event_type_value == "PIPELINE_SUCCESS"),
        dagster_instance=wp.instance,
        dagster_run=wp.instance.get_run_by_id(result.run_id),
        repository_def=told.get_repository_def(),
    )
    return sensor(context)


def test_a_catalogue_hears_of_a_run_and_of_what_it_made_from_what(wp, done, monkeypatch):
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "sk-catalogue")
    with scripted_server(posts={PATH: taken}) as catalogue:
        tell(wp, done, catalogue.base_url)
        events = [exchange.body for exchange in catalogue.exchanges]
        keys = {exchange.headers.get("Authorization") for exchange in catalogue.exchanges}
    assert keys == {"Bearer sk-catalogue"}
    ends = {}
    for event in events:
        ends.setdefault(event["run"]["runId"], []).append(event["eventType"])
    assert set(map(tuple, ends.values())) == {("START", "COMPLETE")}, "of each run, a start and one end"
    first, *children, last = events
    assert [(e["eventType"], e["job"]["name"], e["run"]["runId"]) for e in (first, last)] == [
        ("START", "benchmark_model", done.run_id),
        ("COMPLETE", "benchmark_model", done.run_id),
    ]
    outputs = {output["name"]: e for e in children if e["eventType"] == "COMPLETE" for output in e["outputs"]}
    assert {
        "registry_entry/v1",
        "inference_metrics/v1",
        "reasoning_metrics/v1",
        "retrieval_metrics/v1",
    } <= outputs.keys()
    made = outputs["reasoning_metrics/v1"]
    assert "registry_entry/v1" in {one["name"] for one in made["inputs"]}
    assert {one["namespace"] for one in (*made["inputs"], *made["outputs"])} == {NAMESPACE}
    assert made["run"]["facets"]["parent"]["run"]["runId"] == done.run_id
    assert made["outputs"][0]["facets"]["version"]["datasetVersion"]
    assert len({UUID(e["run"]["runId"]) for e in outputs.values()}) == len(outputs)
    assert all(e["schemaURL"].startswith("https://openlineage.io/spec/") and e["producer"] for e in events)
    assert str(wp.state.root) not in json.dumps(events)


def test_a_run_that_could_not_be_told_is_told_again_under_the_same_ids(wp, done):
    with scripted_server(posts={PATH: Status(503, "down")}) as catalogue, pytest.raises(Exception, match="503"):
        tell(wp, done, catalogue.base_url)
    with scripted_server(posts={PATH: Body({}, 201)}) as catalogue:
        tell(wp, done, catalogue.base_url)
        tell(wp, done, catalogue.base_url)
        ids = [exchange.body["run"]["runId"] for exchange in catalogue.exchanges]
    assert ids[: len(ids) // 2] == ids[len(ids) // 2 :]


def test_every_end_of_a_run_has_its_sensor_and_without_an_address_there_is_none(tmp_path):
    bare = {"MILTON_STATE_DIR": str(tmp_path)}
    told, untold = (
        {sensor.name for sensor in build_defs(environment=environment).sensors}
        for environment in (bare | {"OPENLINEAGE_URL": "http://catalogue:5000"}, bare)
    )
    ends = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
    assert told - untold == {f"openlineage_{end.value.lower()}" for end in ends}
