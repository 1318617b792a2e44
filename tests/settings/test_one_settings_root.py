"""Only the settings root reads the environment; the README's table, the commented file and the class say the same."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from milton_assets.settings import load_settings, read_settings
from milton_assets.settings.describe import shown, table, template
from milton_assets.settings.leaves import leaves

ROOT = Path(__file__).resolve().parents[2]
ROOM = ROOT / "milton_assets" / "settings"
CREDENTIALS = {ROOT / "resources" / "api_keys.py", ROOT / "resources" / "mlflow_server.py"}
"""Read keys alone: from the variable that a setting names, and from those in which MLflow's clients keep theirs."""

AGENT = {ROOT / "milton_assets" / "agent" / "__main__.py"}
"""Asks where the state folder is and nothing else: a device has no settings, and loading them takes as long as `status`
may take there."""

BOTOCORE = {ROOT / "resources" / "object_store_patience.py"}
"""Sets what botocore reads, unless whoever starts the process has: no setting of ours."""

MODULES = [
    path
    for package in ("milton_assets", "resources")
    for path in sorted((ROOT / package).rglob("*.py"))
    if ROOM not in path.parents and path not in CREDENTIALS | AGENT | BOTOCORE
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def reads_of_the_environment(source: str) -> list[int]:
    """The lines that read it; giving it whole to a child (`os.environ | …`, `{**os.environ}`) is none."""
    tree = ast.parse(source)
    handed_on = {
        id(node)
        for parent in ast.walk(tree)
        for node in (
            [parent.left, parent.right] if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.BitOr) else []
        )
        + (
            [value for key, value in zip(parent.keys, parent.values, strict=True) if key is None]
            if isinstance(parent, ast.Dict)
            else []
        )
    }
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "getenvb"}:
            if id(node) not in handed_on:
                lines.append(node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            lines += [node.lineno for alias in node.names if alias.name.startswith(("environ", "getenv"))]
    return lines


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_other_module_reads_the_environment(path):
    assert reads_of_the_environment(path.read_text()) == []


@pytest.mark.parametrize(
    "source", ["os.environ.get('A')", "os.environ['A']", "os.getenv('A')", "from os import environ", "f(os.environ)"]
)
def test_a_read_is_noticed(source):
    assert reads_of_the_environment(source) == [1]


@pytest.mark.parametrize("source", ["run(env={**os.environ, 'A': 'b'})", "run(env=os.environ | {'A': 'b'})"])
def test_giving_it_to_a_child_is_no_read(source):
    assert reads_of_the_environment(source) == []


@pytest.mark.parametrize("path", sorted(ROOM.rglob("*.py")), ids=name_of)
def test_the_settings_know_no_dagster(path):
    imported = {
        name
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not [name for name in imported if name.startswith(("dagster", "resources"))]


def test_the_readmes_table_is_the_classs():
    spec = importlib.util.spec_from_file_location("make_settings_table", ROOT / "docs/make_settings_table.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    readme = (ROOT / "README.md").read_text()
    assert table() in readme
    assert maker.with_table(readme) == readme, "run `make docs`"


def test_the_written_file_sets_nothing_as_it_is(tmp_path):
    (tmp_path / "milton.yaml").write_text(template())
    environment = {"MILTON_STATE_DIR": str(tmp_path)}
    reading = read_settings(environment)
    assert set(reading.origins) == {("state_dir",)}
    (tmp_path / "milton.yaml").unlink()
    assert reading.settings == load_settings(environment)


def test_every_line_of_the_written_file_holds_once_its_mark_is_removed(tmp_path):
    lines = template().splitlines()
    bare = [
        line.replace("#", "", 1) if line.lstrip().startswith("#") and "# " not in line[:6] else line for line in lines
    ]
    (tmp_path / "milton.yaml").write_text("\n".join(bare))
    reading = read_settings({"MILTON_STATE_DIR": str(tmp_path)})
    assert {".".join(path) for path, origin in reading.origins.items() if "milton.yaml" in str(origin)} == {
        leaf.name for leaf in leaves() if leaf.name != "state_dir"
    }
    assert reading.settings.server.gpu_layers == 99


def test_no_secret_is_shown(tmp_path):
    (tmp_path / "milton.yaml").write_text(
        "server: {env: {HF_TOKEN: hush}, extra_args: [--api-key, hush]}\ntargets: {pi: 'ssh://me:hush@pi'}\n"
    )
    rows = shown(read_settings({"MILTON_STATE_DIR": str(tmp_path)}))
    assert "hush" not in str(rows)
    assert "HF_TOKEN" in str(rows)


def test_each_value_says_where_it_came_from(tmp_path):
    (tmp_path / "milton.yaml").write_text("policy: seed\nserver:\n  slots: 4\n")
    environment = {"MILTON_STATE_DIR": str(tmp_path), "MILTON_PROFILE": "full"}
    origins = {row["name"]: row["from"] for row in shown(read_settings(environment))}
    assert origins["policy"] == "milton.yaml line 1"
    assert origins["server.slots"] == "milton.yaml line 3"
    assert origins["edge_server.slots"] == "as server.slots"
    assert origins["profile"] == "MILTON_PROFILE"
    assert origins["state_dir"] == "MILTON_STATE_DIR"
    assert origins["rerank"] == "default"
