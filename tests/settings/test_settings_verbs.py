"""`milton config` and the verbs that act by the settings, as a user types them."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from milton_assets.cli.app import build_app
from milton_assets.settings import load_settings
from milton_assets.vocabulary.errors import BadInput


@pytest.fixture
def milton(state, monkeypatch):
    """Runs a verb in the state folder with further variables; an error comes back with the result."""
    app = build_app()

    def run(*words: str, **variables: str) -> Result:
        with monkeypatch.context() as patched:
            for name, value in variables.items():
                patched.setenv(name, value)
            return CliRunner().invoke(app, list(words))

    return run


def test_init_writes_a_file_that_sets_nothing_and_never_overwrites_one(milton, state):
    before = load_settings()
    assert milton("config", "init").exit_code == 0
    assert load_settings() == before
    again = milton("config", "init")
    assert isinstance(again.exception, BadInput)
    assert "is there already" in str(again.exception)


def test_show_tells_machines_value_and_origin_of_every_setting(milton, state):
    state.root.mkdir()
    (state.root / "milton.yaml").write_text("server: {slots: 4}\n")
    rows = json.loads(milton("config", "show", "--json", MILTON_POLICY="anchored").stdout)["settings"]
    told = {row["name"]: (row["value"], row["from"]) for row in rows}
    assert told["server.slots"] == (4, "milton.yaml line 1")
    assert told["edge_server.slots"] == (4, "as server.slots")
    assert told["policy"] == ("anchored", "MILTON_POLICY")
    assert told["profile"] == ("full", "default, by what the registry holds")
    assert told["artifact"] == ("gguf", "default")


def test_check_says_yes_with_0_and_no_with_1(milton):
    assert milton("config", "check").exit_code == 0
    no = milton("config", "check", "--json", MILTON_POLICY="sead")
    assert no.exit_code == 1
    assert json.loads(no.stdout)["holds"] is False
    assert "no shipped policy 'sead'" in no.stderr


def test_env_exports_nothing_when_a_setting_cannot_be_acted_on(milton):
    refused = milton("env", MILTON_POLICY="sead")
    assert isinstance(refused.exception, BadInput)
    assert "export" not in refused.stdout


def test_env_exports_neither_profile_nor_policy(milton):
    exported = milton("env", MILTON_PROFILE="smoke", MILTON_POLICY="smoke").stdout
    assert "MILTON_STATE_DIR" in exported
    assert "smoke" not in exported


@pytest.mark.parametrize("source", ["variable", "file"])
def test_a_target_elsewhere_is_the_one_that_is_guarded(milton, state, tmp_path, source):
    kit = tmp_path / "kit"
    variables = {"MILTON_TARGETS": f"kit={kit}"} if source == "variable" else {}
    if source == "file":
        state.root.mkdir()
        (state.root / "milton.yaml").write_text(f"targets: {{kit: {kit}}}\n")
    assert milton("keys", "init").exit_code == 0
    made = milton("device-policy", "init", "--target", "kit", "--json", **variables)
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["path"].startswith(f"{kit}/")
    assert not state.deployments.exists()


def test_the_kind_of_bundle_that_is_deployed_is_the_setting(milton):
    refused = milton("deploy", "--dry-run", MILTON_ARTIFACT="hf-distilled")
    assert "hf-distilled" in str(refused.exception)


def test_a_misspelt_variable_is_said_once(milton):
    said = milton("status", MILTON_POLICEY="seed")
    assert said.stderr.count("did you mean MILTON_POLICY?") <= 1
