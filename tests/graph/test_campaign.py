"""A campaign's settings come from the environment, validated where they enter."""

from __future__ import annotations

import pytest

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import ArtefactKind
from milton_assets.vocabulary.slo import SLO
from resources.campaign import Campaign, Profile


def test_real_use_measures_fully_under_the_seed_policy(tmp_path):
    campaign = Campaign.from_environment({"MILTON_STATE_DIR": str(tmp_path)})
    assert (campaign.profile, campaign.policy, campaign.artifact) == (Profile.FULL, "seed", ArtefactKind.GGUF)
    assert campaign.state.root == tmp_path


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MILTON_PROFILE", "quick"),
        ("MILTON_ARTIFACT", "onnx"),
        ("MILTON_STATE_DIR", "relative/path"),
        ("MILTON_DRY_RUN", "perhaps"),
        ("MILTON_BUNDLE_EXPIRES_DAYS", "soon"),
        ("MILTON_BUNDLE_EXPIRES_DAYS", "-1"),
        ("MILTON_BUNDLE_EXPIRES_DAYS", "nan"),
        ("MILTON_TARGETS", "pi=relative"),
        ("MILTON_SLO", "taste_ms=3"),
        ("MILTON_SLO", "ttft_ms"),
    ],
)
def test_a_value_that_does_not_hold_names_its_variable(tmp_path, variable, value):
    with pytest.raises(BadInput, match=variable):
        Campaign.from_environment({"MILTON_STATE_DIR": str(tmp_path), variable: value})


def test_an_objective_is_measured_by_when_there_is_one(tmp_path):
    environment = {"MILTON_STATE_DIR": str(tmp_path)}
    assert Campaign.from_environment(environment).slo is None
    campaign = Campaign.from_environment(environment | {"MILTON_SLO": "ttft_ms=200, tpot_ms=50"})
    assert campaign.slo == SLO(ttft_ms=200, tpot_ms=50)


def test_without_a_state_folder_of_its_own_it_is_the_users(tmp_path):
    campaign = Campaign.from_environment({"HOME": str(tmp_path)})
    assert campaign.state.root == tmp_path / ".local" / "state" / "milton"


def test_targets_elsewhere_are_deployed_to_instead_of_the_default_one(tmp_path):
    campaign = Campaign.from_environment(
        {"MILTON_STATE_DIR": str(tmp_path), "MILTON_TARGETS": "pi=/mnt/pi,box=/mnt/box"}
    )
    assert campaign.target_names() == ["box", "pi"]
    assert campaign.target_paths["pi"] == "/mnt/pi"


def test_bundles_expire_when_it_is_asked_for(tmp_path):
    home = {"MILTON_STATE_DIR": str(tmp_path)}
    assert Campaign.from_environment(home).bundle_expires_days is None
    assert Campaign.from_environment({**home, "MILTON_BUNDLE_EXPIRES_DAYS": "30"}).bundle_expires_days == 30.0
