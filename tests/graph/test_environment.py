"""`milton env`: the exports that make the literal dagster command work."""

from __future__ import annotations

import pytest

from milton_assets.cli.environment import exports_for, install_dagster_yaml, only_demo_models
from milton_assets.vocabulary.errors import BadInput
from resources.demo_models import SMOLLM2
from resources.registries.json_file import add_entries, new_entry


def demo_entry():
    return new_entry("HuggingFaceTB/SmolLM2", gguf="models/a.gguf", extra={"source": SMOLLM2.requirements})


def test_a_registry_of_demo_models_is_decided_under_the_smoke_policy(state):
    add_entries(state.registry, {"v1": demo_entry()})
    exports = exports_for({"MILTON_STATE_DIR": str(state.root)})
    assert (exports["MILTON_PROFILE"], exports["MILTON_POLICY"]) == ("smoke", "smoke")


def test_one_model_of_the_users_own_brings_the_real_policy_back(state):
    add_entries(state.registry, {"v1": demo_entry(), "v2": new_entry("org/mine", gguf="models/b.gguf")})
    exports = exports_for({"MILTON_STATE_DIR": str(state.root)})
    assert (exports["MILTON_PROFILE"], exports["MILTON_POLICY"]) == ("full", "seed")


def test_an_empty_registry_is_no_demo(state):
    assert not only_demo_models(state.registry)


def test_what_is_set_already_is_kept(state):
    exports = exports_for({"MILTON_STATE_DIR": str(state.root), "MILTON_POLICY": "strict", "DAGSTER_HOME": "/dh"})
    assert (exports["MILTON_POLICY"], exports["DAGSTER_HOME"]) == ("strict", "/dh")


def test_dagster_yaml_is_linked_once_and_then_left_alone(tmp_path):
    install_dagster_yaml(tmp_path)
    link = tmp_path / "dagster.yaml"
    assert "accelerator" in link.read_text()
    link.unlink()
    link.write_text("# mine")
    install_dagster_yaml(tmp_path)
    assert link.read_text() == "# mine"


def test_a_dangling_link_is_mended(tmp_path):
    (tmp_path / "dagster.yaml").symlink_to(tmp_path / "gone")
    install_dagster_yaml(tmp_path)
    assert "accelerator" in (tmp_path / "dagster.yaml").read_text()


def test_a_relative_state_folder_is_refused():
    with pytest.raises(BadInput, match="MILTON_STATE_DIR"):
        exports_for({"MILTON_STATE_DIR": "here"})
