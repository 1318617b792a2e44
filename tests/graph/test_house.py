"""The house: dependencies run one way, and every module says what belongs in it.

Who may import whom is held by import-linter's contracts in pyproject.toml; here stands what they cannot say.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(p for top in ("milton_assets", "resources") for p in (ROOT / top).rglob("*.py"))
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def imports_of(path: Path) -> set[str]:
    """Every module the file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def linted(root: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [program, "--no-cache", "--config", root / "pyproject.toml"]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def test_every_contract_on_imports_is_kept():
    done = linted(ROOT)
    assert done.returncode == 0, done.stdout


def renders_foreign_templates(source: str) -> list[str]:
    """What a module could render a text of others with: jinja2 is for files of ours that its loader finds by name."""
    tree = ast.parse(source)
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    named |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    others = {"minijinja", "transformers", "tokenizers", "mistral_common"} & {
        name.partition(".")[0] for name in imported
    }
    return sorted(({"from_string", "Template", "DictLoader", "FunctionLoader", "compile_expression"} & named) | others)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_of_ours_can_render_a_models_chat_template(path: Path):
    """A template is code: only the servers' sandboxes run it."""
    source = path.read_text()
    if "jinja" in source or "transformers" in source or "tokenizers" in source:
        assert renders_foreign_templates(source) == []


@pytest.mark.parametrize(
    "line", ["jinja2.Environment().from_string(text)", "from jinja2 import Template", "import transformers"]
)
def test_a_module_that_renders_foreign_templates_is_found(line: str):
    assert renders_foreign_templates(line)


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("milton_assets/vocabulary/keys.py", "import milton_assets.edge", "Dependencies run one way"),
        ("milton_assets/selection/gates.py", "import milton_assets.tiers.inference", "Dependencies run one way"),
        ("milton_assets/edge/manifest.py", "import resources.hardware", "Dependencies run one way"),
        ("milton_assets/tiers/inference/load.py", "import milton_assets.tiers.reasoning", "Tiers do not import"),
        (
            "milton_assets/campaign/stages/decision.py",
            "import milton_assets.campaign.stages.anchors",
            "Stages of a campaign do not import",
        ),
        ("milton_assets/edge/deployment/ids.py", "import pandas", "A device needs nothing heavy"),
        ("resources/servers/wire.py", "import dagster", "knows no Dagster"),
    ],
    ids=["upward", "sibling", "edge-resources", "tier-tier", "stage-stage", "heavy", "dagster"],
)
def test_an_import_against_the_house_breaks_a_contract(tmp_path, module, line, contract):
    for top in ("milton_assets", "resources"):
        shutil.copytree(ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as stream:
        stream.write(f"\n{line}\n")
    done = linted(tmp_path)
    assert done.returncode == 1
    assert re.search(rf"{contract}.* BROKEN", done.stdout), done.stdout


def test_every_part_of_the_package_has_a_place_among_the_layers():
    layers = next(contract["layers"] for contract in CONTRACTS if contract["type"] == "layers")
    placed = {part.strip().removeprefix("milton_assets.") for layer in layers for part in re.split("[|:]", layer)}
    parts = {path.stem for path in (ROOT / "milton_assets").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert parts - {"__pycache__", "py", "__init__"} - placed == set()


def test_what_dagster_keeps_private_is_reached_in_one_module():
    reaching = {name_of(path) for path in MODULES if any(re.match(r"dagster\._", n) for n in imports_of(path))}
    assert reaching == {"resources/dagster_private.py"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_belongs_in_it_and_what_does_not(path):
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert "What belongs here:" in docstring
    assert "What does not:" in " ".join(docstring.split())
