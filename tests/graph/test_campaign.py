"""A campaign, as the graph has it: what the settings say, and what the registry decides where they say nothing."""

from __future__ import annotations

import pytest
from dagster import job, op

from milton_assets.settings import Profile, load_settings
from milton_assets.usecases.resuming import conditions_of
from milton_assets.vocabulary.campaign import Conditions
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.slo import SLO
from resources.campaign import Campaign
from resources.demo_models import SMOLLM2
from resources.model_server import LlamaCppResource
from resources.registries.json_file import add_entries, new_entry


def campaign_of(home, **variables) -> Campaign:
    return Campaign.from_settings(load_settings({"MILTON_STATE_DIR": str(home), **variables}))


def demo_entry():
    return new_entry("HuggingFaceTB/SmolLM2", gguf="models/a.gguf", extra={"source": SMOLLM2.requirements})


def test_real_use_measures_fully_under_the_seed_policy(tmp_path):
    campaign = campaign_of(tmp_path)
    assert (campaign.profile, campaign.policy, campaign.chosen.notes) == (Profile.FULL, "seed", ())


def test_a_registry_of_demo_models_is_decided_under_the_smoke_policy_and_it_is_said(state):
    add_entries(state.registry, {"v1": demo_entry()})
    campaign = campaign_of(state.root)
    assert (campaign.profile, campaign.policy) == (Profile.SMOKE, "smoke")
    assert campaign.chosen.notes == ("profile and policy smoke, because the registry holds only the demo's models",)


def test_one_model_of_the_users_own_brings_the_real_policy_back_at_the_next_run(state):
    add_entries(state.registry, {"v1": demo_entry()})
    campaign = campaign_of(state.root)
    add_entries(state.registry, {"v2": new_entry("org/mine", gguf="models/b.gguf")})
    assert (campaign.profile, campaign.policy, campaign.chosen.notes) == (Profile.FULL, "seed", ())


def test_what_is_set_goes_before_the_demos_default(state):
    add_entries(state.registry, {"v1": demo_entry()})
    campaign = campaign_of(state.root, MILTON_POLICY="seed")
    assert (campaign.profile, campaign.policy) == (Profile.SMOKE, "seed")
    assert campaign.chosen.notes == ("profile smoke, because the registry holds only the demo's models",)


@pytest.mark.parametrize("which", ["POLICY", "PROFILE"])
def test_smoke_that_is_set_over_real_models_is_said_loudly(state, which):
    add_entries(state.registry, {"v1": demo_entry(), "mine": new_entry("org/mine", gguf="models/b.gguf")})
    (note,) = campaign_of(state.root, **{f"MILTON_{which}": "smoke"}).chosen.notes
    assert note.startswith(f"WARNING: the {which.lower()} is set to smoke")
    assert "mine" in note
    assert f"unset MILTON_{which}" in note


def test_an_objective_is_measured_by_when_there_is_one(tmp_path):
    assert campaign_of(tmp_path).slo is None
    assert campaign_of(tmp_path, MILTON_SLO="ttft_ms=200, tpot_ms=50").slo == SLO(ttft_ms=200, tpot_ms=50)


def test_targets_elsewhere_are_deployed_to_instead_of_the_default_one(tmp_path):
    campaign = campaign_of(tmp_path, MILTON_TARGETS="pi=/mnt/pi,box=/mnt/box")
    assert campaign.target_names() == ["box", "pi"]
    assert campaign.target_paths["pi"] == "/mnt/pi"


def test_half_a_side_model_in_the_launchpad_is_refused(tmp_path):
    with pytest.raises(BadInput, match="both, or neither"):
        _ = Campaign(state_root=str(tmp_path), judge_url="http://j:1").judge


def test_child_runs_keep_what_their_campaign_began_with(state):
    add_entries(state.registry, {"v1": demo_entry()})
    campaign = campaign_of(state.root, MILTON_TARGETS="kit=/srv/kit")
    pinned = campaign.pinned()
    add_entries(state.registry, {"v2": new_entry("org/mine", gguf="models/b.gguf")})
    seen = []

    @op
    def child(campaign: Campaign) -> None:
        seen.append((campaign.profile, campaign.policy, campaign.chosen.notes, campaign.target_names()))

    @job(resource_defs={"campaign": campaign_of(state.root)})
    def child_run() -> None:
        child()

    child_run.execute_in_process(run_config={"resources": pinned})
    note = "profile and policy smoke, because the registry holds only the demo's models"
    assert seen == [(Profile.SMOKE, "smoke", (note,), ["kit"])]


def test_where_a_classs_reference_lies_is_a_condition_of_a_campaign_and_where_other_targets_lie_is_none(tmp_path):
    def conditions(**at: str) -> Conditions:
        campaign = Campaign(
            state_root=str(tmp_path), policy_set="smoke", target_paths=at, class_references={"pi5": "kitchen"}
        )
        return conditions_of([], {}, {}, campaign, LlamaCppResource())

    before = conditions(kitchen="/kitchen", hall="/hall")
    assert before.differences(conditions(kitchen="/kitchen", hall="/elsewhere")) == []
    (why,) = before.differences(conditions(kitchen="/elsewhere", hall="/hall"))
    assert why.startswith("settings: class_references changed")
