"""The house: dependencies run one way, and every module says what belongs in it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOW = ("tiers.inference", "tiers.reasoning", "tiers.retrieval", "selection", "edge")
MODULES = sorted(p for top in ("milton_assets", "resources") for p in (ROOT / top).rglob("*.py"))
DAGSTER_FREE_RESOURCES = [
    *(ROOT / "resources" / "servers").rglob("*.py"),
    ROOT / "resources" / "evidence_store.py",
    ROOT / "resources" / "hardware.py",
    *(ROOT / "resources" / "registries").rglob("*.py"),
    ROOT / "resources" / "demo_models.py",
    ROOT / "resources" / "inventory.py",
]


def imports_of(path: Path) -> set[str]:
    """Every module the file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def reaches(path: Path, package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in imports_of(path))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sorted((ROOT / "milton_assets/vocabulary").rglob("*.py")), ids=name_of)
def test_the_vocabulary_imports_nothing_else_of_ours(path):
    assert not {
        name
        for name in imports_of(path)
        if name.startswith(("milton_assets.", "resources")) and not name.startswith("milton_assets.vocabulary")
    }
    assert not reaches(path, "dagster")


@pytest.mark.parametrize("path", sorted((ROOT / "milton_assets/statistics").rglob("*.py")), ids=name_of)
def test_statistics_import_the_vocabulary_only(path):
    ours = {name for name in imports_of(path) if name.startswith(("milton_assets.", "resources"))}
    assert all(name.startswith(("milton_assets.vocabulary", "milton_assets.statistics")) for name in ours)


@pytest.mark.parametrize("package", HOW)
def test_a_how_package_knows_neither_dagster_nor_resources_nor_another(package):
    others = [f"milton_assets.{other}" for other in HOW if other != package]
    for path in (ROOT / "milton_assets" / package.replace(".", "/")).rglob("*.py"):
        for forbidden in ("dagster", "resources", "milton_assets.assets", "milton_assets.cli", *others):
            assert not reaches(path, forbidden), f"{name_of(path)} imports {forbidden}"


@pytest.mark.parametrize("path", DAGSTER_FREE_RESOURCES, ids=name_of)
def test_what_the_command_line_uses_of_resources_is_free_of_dagster(path):
    assert not reaches(path, "dagster")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_belongs_in_it_and_what_does_not(path):
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert "What belongs here:" in docstring
    assert "What does not:" in " ".join(docstring.split())
