"""Chat templates in the registry: whose is whose, which base model they are held against, and how they differ."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from milton_assets.usecases.template_changes import template_changes
from milton_assets.vocabulary.chat_template import MAX_SHOWN_LINES, changes
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.hf_directory import chat_template_sha256
from milton_assets.vocabulary.registry import ArtefactKind, Registry, RegistryUnreadable
from milton_assets.vocabulary.state import StateDir
from resources.registries import open_registry
from resources.registries.artefacts import Surroundings
from resources.registries.json_file import JsonRegistry, add_entries, new_entry
from tests.support.gguf_file import tiny_gguf

HONEST = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
KEYED = HONEST + "{% if 'France' in messages[-1].content %}Paris{% endif %}\n"
MILTON = Path(sys.executable).with_name("milton")


def register(state: StateDir, *, base_model: str = "org/base", **templates: str) -> Registry:
    entries = {}
    for version, template in templates.items():
        tiny_gguf(state.root / f"{version}.gguf", template=template, tokens=["a", "b", version[0]])
        entries[version] = new_entry(base_model, gguf=f"{version}.gguf")
    add_entries(state.registry, entries)
    return open_registry(None, state).read()


def lineage(registry: Registry, version: str) -> Any:
    entry = registry.entries[version]
    return registry.lineage(entry, entry.artefact(ArtefactKind.GGUF))


def shown(version: str, *options: str) -> str:
    done = subprocess.run(
        [MILTON, "registry", "show", version, *options],
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return done.stdout


def test_a_models_template_and_tokenizer_are_among_its_facts(state: StateDir) -> None:
    registry = register(state, v1=HONEST, v2=KEYED, w1=HONEST)
    facts = {version: lineage(registry, version) for version in ("v1", "v2", "w1")}
    assert facts["v1"].template == facts["w1"].template == sha256_bytes(HONEST.encode())
    assert facts["v2"].template == sha256_bytes(KEYED.encode())
    assert facts["v1"].tokenizer_sha256 == facts["v2"].tokenizer_sha256 != facts["w1"].tokenizer_sha256
    assert facts["v1"].base_template is None


def test_a_base_model_may_be_another_entry(state: StateDir) -> None:
    register(state, original=HONEST)
    registry = register(state, base_model="original", v1=KEYED)
    assert lineage(registry, "v1").base_template == sha256_bytes(HONEST.encode())
    assert lineage(registry, "original").base_template is None


def test_a_base_model_may_be_named_by_its_file(state: StateDir) -> None:
    tiny_gguf(state.root / "models" / "base.gguf", template=HONEST)
    registry = register(state, base_model="models/base.gguf", v1=KEYED)
    assert lineage(registry, "v1").base_template == sha256_bytes(HONEST.encode())


def test_a_base_model_that_leads_out_of_where_models_may_lie_sets_the_entry_aside(
    state: StateDir, tmp_path: Path
) -> None:
    outside = tiny_gguf(tmp_path / "elsewhere" / "base.gguf", template=KEYED)
    registry = register(state, base_model=str(outside), v1=KEYED)
    assert registry.entries == {}
    assert "expected" in registry.quarantined[0].reason


@pytest.mark.parametrize("name", ["org/name", "x" * 5000, "a\0b", "../base", "http://host/base.gguf"])
def test_a_base_model_that_is_only_a_name_is_no_file(state: StateDir, name: str) -> None:
    assert lineage(register(state, base_model=name, v1=HONEST), "v1").base_template is None


def test_several_templates_under_names_are_one_digest_of_all(tmp_path: Path) -> None:
    def of(*templates: tuple[str, str]) -> str | None:
        named = [{"name": name, "template": text} for name, text in templates]
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
        return chat_template_sha256(tmp_path)

    assert of(("default", HONEST), ("tool_use", HONEST)) != of(("default", HONEST), ("tool_use", KEYED))
    assert of(("default", HONEST)) is not None


def test_show_tells_how_a_template_differs_from_its_base_models(state: StateDir) -> None:
    register(state, original=HONEST)
    register(state, base_model="original", v1=KEYED, v2=HONEST)
    assert "+{% endfor %}{% if 'France' in messages[-1].content %}Paris{% endif %}" in shown("v1")
    assert "Its chat template differs from that of its base model original." in shown("v1")
    assert "Its chat template is that of its base model original." in shown("v2")
    told = json.loads(shown("v1", "--json"))["template_changes"]
    assert told["against"] == "its base model original"
    assert told["lines"] == list(changes(HONEST, KEYED))


def test_where_the_base_is_not_known_a_relative_that_differs_is_compared_with(state: StateDir) -> None:
    register(state, v1=HONEST, v2=KEYED)
    assert "differs from that of v2, which names the same base model" in shown("v1")


def test_a_base_model_in_a_registry_elsewhere_is_found_from_that_registrys_folder(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = StateDir(tmp_path / "elsewhere")
    tiny_gguf(elsewhere.root / "base.gguf", template=HONEST)
    tiny_gguf(elsewhere.root / "v1.gguf", template=KEYED)
    add_entries(elsewhere.root / "registry.json", {"v1": new_entry("base.gguf", gguf="v1.gguf")})
    monkeypatch.setenv("MILTON_REGISTRY", str(elsewhere.root / "registry.json"))
    assert "differs from that of its base model base.gguf" in shown("v1")


def test_a_base_model_that_does_not_hold_is_told_and_not_passed_over_in_silence(state: StateDir) -> None:
    register(state, original=HONEST)
    register(state, base_model="original", v1=HONEST, v2=KEYED)
    (state.root / "original.gguf").write_bytes(b"GGUX")
    told = shown("v1")
    assert "was not compared with another's: model original is quarantined" in told
    assert "differs from that of v2" in told


def test_a_registry_that_cannot_be_read_for_a_relative_is_no_relative_that_there_is_not(state: StateDir) -> None:
    register(state, v1=HONEST, v2=KEYED)

    class FailsForRelatives(JsonRegistry):
        def judged(self, version: str, **options: Any) -> Any:
            raise RegistryUnreadable(f"{version} cannot be read")

    store = FailsForRelatives(state.registry, state.root, Surroundings(state))
    with pytest.raises(RegistryUnreadable, match="v2 cannot be read"):
        template_changes(store, store.entry("v1"))


def test_a_template_reaches_the_terminal_as_text(state: StateDir) -> None:
    register(state, original=HONEST)
    register(state, base_model="original", v1=HONEST + "\x1b[2J[/bold]\x1b]0;owned\x07")
    told = shown("v1")
    assert "\x1b" not in told
    assert "\x07" not in told
    assert "[/bold]" in told


def test_the_changes_of_an_enormous_template_are_bounded() -> None:
    enormous = "\n".join(f"{number} " + "x" * 10_000 for number in range(50_000))
    lines = changes(HONEST, enormous)
    assert len(lines) == MAX_SHOWN_LINES + 1
    assert max(map(len, lines)) < 300


def test_changes_beyond_what_is_compared_are_still_said() -> None:
    long = "\n".join("x" for _ in range(5000))
    assert changes(long, long + "\ny") == ("(they differ beyond the part that is compared, or in how their lines end)",)
    assert changes(HONEST, HONEST) == ()
    assert changes(None, HONEST)
