"""The graph as a component of somebody else's Dagster project, as its users come to it: by `dg`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dagster import DagsterInstance, Definitions, ScaffoldRequest, StaticPartitionsDefinition, asset, define_asset_job

from milton_assets.component import MiltonScaffolder, MiltonScaffoldParams
from resources.dagster_private import show_in_ui, start_child

TYPE = "milton_assets.component.MiltonAutobench"
PYPROJECT = """
[project]
name = "ours"
version = "0.1"
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "ours"
"""
DEFINITIONS = """
from pathlib import Path
from dagster import definitions, load_from_defs_folder

@definitions
def defs():
    return load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
Dg = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def dg(tmp_path: Path) -> Dg:
    """`dg` in the folder `project` of an empty project, as `create-dagster` lays it out."""
    (tmp_path / "project/ours/defs").mkdir(parents=True)
    (tmp_path / "project/pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "project/ours/definitions.py").write_text(DEFINITIONS)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "COLUMNS": "400",
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).with_name("dg"), *words]
        return subprocess.run(
            command, cwd=tmp_path / "project", env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.mark.slow
def test_a_project_gets_the_graph_by_one_command_and_its_milton_yaml_is_checked(dg, tmp_path):
    state, written = tmp_path / "state", tmp_path / "project/ours/defs/edge/defs.yaml"
    made = dg("scaffold", "defs", TYPE, "edge", "--state-dir", str(state))
    assert made.returncode == 0, made.stderr
    assert written.read_text().split() == ["type:", TYPE, "attributes:", "state_dir:", str(state)]

    explained = (state / "milton.yaml").read_text()
    (state / "milton.yaml").write_text(explained + "owners: [team:ours]\n")
    listed = dg("list", "defs", "--json", "--assets", "edge_bundle")
    assert listed.returncode == 0, listed.stderr
    assert [one["owners"] for one in json.loads(listed.stdout)["assets"]] == [[{"team": "ours"}]]

    (state / "milton.yaml").write_text(explained + "ownres: [team:ours]\n")
    checked = dg("check", "defs")
    assert checked.returncode == 1
    line = len(explained.splitlines()) + 1
    assert f"milton.yaml, line {line}: there is no setting 'ownres'. expected: owners" in checked.stdout


def test_a_milton_yaml_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "milton.yaml").write_text("owners: [team:ours]\n")
    params = MiltonScaffoldParams(state_dir=str(tmp_path))
    MiltonScaffolder().scaffold(ScaffoldRequest(TYPE, tmp_path, "yaml", None, params))
    assert (tmp_path / "milton.yaml").read_text() == "owners: [team:ours]\n"


def test_children_are_listed_in_the_code_location_of_their_campaign(monkeypatch):
    @asset(partitions_def=StaticPartitionsDefinition(["one"]))
    def measured() -> None: ...

    defs = Definitions(assets=[measured], jobs=[define_asset_job("measure", [measured])])
    job = defs.resolve_job_def("measure")
    monkeypatch.setattr("resources.dagster_private.CODE_LOCATION", "ours")
    with DagsterInstance.ephemeral() as instance:
        parent = instance.create_run_for_job(job)
        show_in_ui(instance, parent.run_id, "__repository__")
        monkeypatch.undo()
        child, _ = start_child(job, instance, parent=parent.run_id, partition="one", tags={}, run_config={})
        assert child.remote_job_origin.location_name == "ours"
