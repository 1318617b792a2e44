"""Targets are added to milton.yaml and taken out of it, and every other line stays as a person wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest

from milton_assets.settings import SETTINGS_FILE, TargetSettings, load_settings
from milton_assets.settings.editing import add_target, remove_target
from milton_assets.vocabulary.errors import BadInput

PI = TargetSettings(at="ssh://pi@kitchen")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"MILTON_STATE_DIR": str(tmp_path), "HOME": str(tmp_path)}


@pytest.mark.parametrize(
    "before",
    [
        "",
        "# mine\nprofile: smoke\n",
        "targets:\n  box: /srv/box  # the old one\n",
        "targets:\n    # four spaces\n    box: /srv/box\nprofile: smoke\n",
    ],
    ids=["none", "others", "beside", "indented"],
)
def test_a_target_comes_and_goes_and_the_rest_stays(env, tmp_path, before):
    file = tmp_path / SETTINGS_FILE
    if before:
        file.write_text(before)
    add_target(load_settings(env), "kitchen", PI, env)
    assert load_settings(env).targets["kitchen"] == PI
    assert all(line in file.read_text() for line in before.splitlines())
    remove_target(load_settings(env), "kitchen", env)
    assert "kitchen" not in load_settings(env).targets
    assert file.read_text().strip() == before.strip()


def test_a_new_device_class_is_named_too(env):
    target = TargetSettings.model_validate({"at": "ssh://pi@kitchen", "class": "pi5"})
    add_target(load_settings(env), "kitchen", target, env)
    settings = load_settings(env)
    assert (settings.targets["kitchen"], set(settings.device_classes)) == (target, {"local", "pi5"})


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        ("targets: {box: /srv/box}\n", {}, "cannot be changed line by line"),
        ("targets:\n  kitchen: /srv/kitchen\n", {}, "the target kitchen is /srv/kitchen"),
        ("", {"MILTON_TARGETS": "box=/srv/box"}, "MILTON_TARGETS is set"),
    ],
    ids=["braces", "taken", "variable"],
)
def test_what_cannot_be_added_leaves_the_file_as_it_was(env, tmp_path, text, more, said):
    (tmp_path / SETTINGS_FILE).write_text(text)
    with pytest.raises(BadInput, match=said):
        add_target(load_settings(env | more), "kitchen", PI, env | more)
    assert (tmp_path / SETTINGS_FILE).read_text() == text
