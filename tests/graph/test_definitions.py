"""The composition root: it loads, it is partitioned as designed, and its three descriptions agree."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
import yaml
from dagster import AssetKey, Definitions

from milton_assets.definitions import build_defs
from milton_assets.selection.policy_file import shipped_policies
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.golden_set import golden_digests, read_all_goldens
from milton_assets.vocabulary.registry import ArtefactKind
from resources.model_server import LlamaCppResource, VLLMResource
from tests.support.tiers import TIERS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def defs(tmp_path):
    return build_defs(environment={"MILTON_STATE_DIR": str(tmp_path)})


def test_the_definitions_load(defs):
    Definitions.validate_loadable(defs)


def test_each_job_has_one_partition_definition(defs):
    partitions = {name: defs.resolve_job_def(name).partitions_def for name in ("benchmark_model", "promote", "deploy")}
    assert {name: p.name for name, p in partitions.items()} == {
        "benchmark_model": "model_versions",
        "promote": "benchmark_runs",
        "deploy": "edge_targets",
    }


def test_everything_that_the_ui_lists_says_what_it_is(defs):
    graph = defs.resolve_asset_graph()
    silent = [key.to_user_string() for key in graph.get_all_asset_keys() if not graph.get(key).description]
    silent += [str(key) for key in graph.asset_check_keys if not graph.get_check_spec(key).description]
    silent += [one.name for one in (*defs.sensors, *defs.schedules) if not one.description]
    jobs = [job for job in defs.resolve_all_job_defs() if not job.name.startswith("__")]
    silent += [job.name for job in jobs if not job.description]
    assert silent == []


def test_every_field_of_the_launchpad_is_described(defs):
    job = defs.resolve_job_def("autobench")
    fields = {
        f"conduct.{name}": field
        for name, field in job.get_node_named("conduct").definition.config_schema.config_type.fields.items()
    }
    for key, resource in job.resource_defs.items():
        found = getattr(resource.config_schema.config_type, "fields", {})
        fields |= {f"{key}.{name}": field for name, field in found.items()}
    assert {"conduct.only", "campaign.profile_set", "campaign.policy_set"} <= set(fields)
    assert [name for name, field in fields.items() if not field.description] == []
    offered = fields["campaign.policy_set"].description
    assert [name for name in shipped_policies() if name not in offered] == []


def test_the_conductor_needs_no_arguments(defs):
    assert defs.resolve_job_def("autobench").partitions_def is None


@pytest.mark.parametrize("tier", ["inference", "reasoning", "retrieval", "fidelity"])
def test_a_tier_has_a_code_version_and_its_golden_upstream(defs, tier):
    graph = defs.resolve_asset_graph()
    node = graph.get(AssetKey(f"{tier}_metrics"))
    assert node.code_version
    golden_of = {"inference": "inference_prompts", "reasoning": "reasoning_cases", "retrieval": "retrieval_corpus"}
    assert AssetKey({**golden_of, "fidelity": "fidelity_passages"}[tier]) in node.parent_keys


def test_the_tiers_share_the_accelerator(defs):
    graph = defs.resolve_asset_graph()
    assert {graph.get(AssetKey(f"{t}_metrics")).pools == {"accelerator"} for t in ("inference", "reasoning")} == {True}


def test_lineage_is_unbroken_from_goldens_and_registry_to_deployment(defs):
    graph = defs.resolve_asset_graph()
    above = graph.get_ancestor_asset_keys(AssetKey("deployment"))
    expected = {
        *("registry_entry", "inference_metrics", "reasoning_metrics", "retrieval_metrics", "fidelity_metrics"),
        *("selection_decision", "edge_bundle", "inference_prompts", "reasoning_cases", "retrieval_qrels"),
    }
    assert expected <= {key.to_user_string() for key in above}


def test_loading_warns_of_nothing(tmp_path):
    code = "import milton_assets.definitions as module; module.defs()"
    environment = {"MILTON_STATE_DIR": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_workspace_and_pyproject_name_the_same_module():
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"][0]["python_module"]
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    dg = tools["dg"]["project"]
    assert workspace["module_name"] == tools["dagster"]["module_name"] == dg["code_location_target_module"]
    assert workspace["location_name"] == tools["dagster"]["code_location_name"] == dg["code_location_name"]


def server_of(tmp_path, **variables):
    return build_defs(environment={"MILTON_STATE_DIR": str(tmp_path), **variables}).resources["model_server"]


def test_llama_cpp_is_launched_unless_another_server_is_named(tmp_path):
    assert isinstance(server_of(tmp_path), LlamaCppResource)


def test_vllm_is_launched_from_hugging_face_directories(tmp_path):
    server = server_of(tmp_path, MILTON_SERVER="vllm")
    assert isinstance(server, VLLMResource)
    assert server.artefact_kind is ArtefactKind.HF_DISTILLED


def test_an_address_is_attached_to(tmp_path):
    server = server_of(tmp_path, MILTON_SERVER="http://gpu-box:8000")
    assert isinstance(server, VLLMResource)
    assert server.base_url == "http://gpu-box:8000"


def test_an_attached_server_has_loaded_what_is_to_be_bundled(tmp_path):
    address = {"MILTON_SERVER": "http://gpu-box:8000"}
    assert server_of(tmp_path, **address).artefact_kind is ArtefactKind.GGUF
    elsewhere = server_of(tmp_path, **address, MILTON_SERVER_PATH="/mnt/v1.gguf")
    assert elsewhere.path_there == "/mnt/v1.gguf"
    full = server_of(tmp_path, **address, MILTON_ARTIFACT="hf-distilled", MILTON_SERVER_KEY_ENV="KEY")
    assert (full.artefact_kind, full.api_key_env) == (ArtefactKind.HF_DISTILLED, "KEY")


def test_a_variable_that_no_setting_has_is_told_when_the_graph_loads(tmp_path):
    environment = {"MILTON_STATE_DIR": str(tmp_path), "PATH": "", "HOME": str(tmp_path), "MILTON_POLICEY": "seed"}
    command = [sys.executable, "-c", "import milton_assets.definitions as module; module.defs()"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0
    assert "MILTON_POLICEY; did you mean MILTON_POLICY?" in done.stderr


def test_a_milton_yaml_that_does_not_hold_keeps_the_graph_from_loading(tmp_path):
    (tmp_path / "milton.yaml").write_text("polcy: seed\n")
    with pytest.raises(BadInput, match=r"line 1: there is no setting 'polcy'.*expected: policy"):
        build_defs(environment={"MILTON_STATE_DIR": str(tmp_path)})


def test_the_graph_is_the_same_for_tests_as_for_production(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = build_defs(environment={"MILTON_STATE_DIR": str(tmp_path)}, overrides={"model_server": VLLMResource()})
        theirs = build_defs(environment={"MILTON_STATE_DIR": str(tmp_path)})
    keys = [set(d.resolve_asset_graph().get_all_asset_keys()) for d in (ours, theirs)]
    assert keys[0] == keys[1]


def test_every_file_of_the_goldens_is_a_source_asset_with_its_digest():
    files = [path for path in (ROOT / "goldens").rglob("*") if path.suffix in {".json", ".jsonl", ".tsv"}]
    assert sorted(golden_digests(read_all_goldens(TIERS, {})).values()) == sorted(sha256_file(path) for path in files)
