"""`milton env`: the exports that make the literal dagster command work."""

from __future__ import annotations

import pytest

from milton_assets.cli.environment import exports_for, install_dagster_yaml
from milton_assets.settings import load_settings
from milton_assets.vocabulary.errors import BadInput


def exports(environment):
    return exports_for(load_settings(environment), environment)


def test_only_what_dagster_needs_to_find_the_graph_is_exported(state):
    assert exports({"MILTON_STATE_DIR": str(state.root), "MILTON_POLICY": "smoke"}) == {
        "MILTON_STATE_DIR": str(state.root),
        "DAGSTER_HOME": str(state.dagster),
        "DAGSTER_MODULE_NAME": "milton_assets.definitions",
    }


def test_what_is_set_already_is_kept(state):
    environment = {
        "MILTON_STATE_DIR": str(state.root),
        "DAGSTER_HOME": "/dh",
        "DAGSTER_MODULE_NAME": "mine.definitions",
    }
    assert exports(environment)["DAGSTER_HOME"] == "/dh"
    assert exports(environment)["DAGSTER_MODULE_NAME"] == "mine.definitions"


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
        exports({"MILTON_STATE_DIR": "here"})
