"""What settings name is looked for before anything is measured."""

from __future__ import annotations

import pytest

from milton_assets.selection.policy_file import shipped_policies
from milton_assets.settings import load_settings
from milton_assets.usecases.settings_check import check_policy, check_settings, problems_of
from milton_assets.vocabulary.errors import BadInput

POLICY = """
name: ours
version: 1
summary: one criterion
normalisation: minmax_pool
criteria:
  - {tier: TIER, metric: METRIC, label: latency, direction: lower, weight: 1}
"""


def settings_with(home, text):
    (home / "milton.yaml").write_text(text)
    return load_settings({"MILTON_STATE_DIR": str(home)})


@pytest.mark.parametrize("name", shipped_policies())
def test_every_shipped_policy_asks_for_what_is_measured(name):
    assert check_policy(name).name == name


def test_a_metric_that_no_tier_has_is_found_with_the_nearest_name(tmp_path):
    path = tmp_path / "ours.yaml"
    path.write_text(POLICY.replace("TIER", "inference").replace("METRIC", "ttft_ms.meidan"))
    with pytest.raises(BadInput, match=r"inference has no metric .ttft_ms\.meidan.; near are .*ttft_ms\.median"):
        check_policy(str(path))


def test_a_tier_that_is_not_there_is_found(tmp_path):
    path = tmp_path / "ours.yaml"
    path.write_text(POLICY.replace("TIER", "fidelity").replace("METRIC", "kl"))
    with pytest.raises(BadInput, match="fidelity"):
        check_policy(str(path))


def test_settings_that_can_be_acted_on_have_no_problems(tmp_path):
    assert problems_of(settings_with(tmp_path, "policy: anchored")) == ()


WRONG = {
    "a policy that does not exist": ("policy: sead", "no shipped policy 'sead'"),
    "a policy file that does not exist": ("policy: ./none.yaml", "none.yaml cannot be read"),
    "goldens of no tier": ("goldens: {fidelty: [/]}", "no tier 'fidelty' is installed"),
    "goldens that are not there": ("goldens: {reasoning: [cases.json]}", "cases.json of reasoning are not there"),
    "a binary that is not there": ("server: {binary: /no/llama-server}", "no program /no/llama-server"),
    "an edge's binary that is not there": ("edge_server: {binary: /no/llama}", "no program /no/llama"),
    "an interpreter that is not there": ("server: {which: vllm, vllm_python: /no/python}", "no interpreter /no/python"),
    "a key that is not there": ("judge: {url: 'http://j:1', model: j, key_env: NO_KEY_HERE}", "NO_KEY_HERE is empty"),
    "a wave of a class that is none": ("device_classes: {local: {rollout: {waves: [10x]}}}", "'10x' is no wave"),
    "a class's freeze that is none": ("device_classes: {local: {rollout: {freeze: [never]}}}", "'never' is no freeze"),
    "a target that nothing reaches": ("targets: {pi: 'carrier-pigeon://pi'}", "pi"),
}


@pytest.mark.parametrize(("text", "found"), WRONG.values(), ids=WRONG)
def test_what_is_not_there_is_found(tmp_path, text, found):
    with pytest.raises(BadInput) as refused:
        check_settings(settings_with(tmp_path, text))
    assert found in refused.value.problem


def test_everything_wrong_is_told_at_once(tmp_path):
    text = "policy: sead\nserver: {binary: /no/llama-server}\n"
    assert len(problems_of(settings_with(tmp_path, text))) == 2
