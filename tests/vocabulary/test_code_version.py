"""The version of code: it follows what the code says through imports, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import milton_assets
from milton_assets.edge import bundle
from milton_assets.selection import version as selection
from milton_assets.tiers import inference, reasoning, retrieval
from milton_assets.vocabulary.code_version import code_version, modules_reached
from milton_assets.vocabulary.errors import BadInput

PACKAGE = Path(milton_assets.__file__).parent
OWNERS = {
    "inference": inference.code_version,
    "reasoning": reasoning.code_version,
    "retrieval": retrieval.code_version,
    "selection": selection.code_version,
    "bundle": bundle.code_version,
}
ASK = """
from milton_assets.selection import version as selection
from milton_assets.edge import bundle
from milton_assets.tiers import inference, reasoning, retrieval
for owner in (inference, reasoning, retrieval, selection, bundle):
    print(owner.code_version())
"""


def versions(root: Path) -> dict[str, str]:
    """What the copy of the package under `root` says of each owner, asked of a process that knows no other copy."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-B", "-c", ASK]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=True, env=environment | {"PYTHONPATH": str(root)}
    )
    return dict(zip(OWNERS, done.stdout.split(), strict=True))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "milton_assets", ignore=ignored)
    shutil.copytree(PACKAGE.parent / "goldens", tmp_path / "goldens", ignore=ignored)
    return tmp_path


def edit(copy: Path, module: str, change: Callable[[str], str]) -> None:
    path = copy / "milton_assets" / module
    before = path.read_text()
    after = change(before)
    assert after != before
    path.write_text(after)


@pytest.mark.parametrize(
    ("module", "old", "new", "changed"),
    [
        ("tiers/inference/stream.py", "import ", "SLOWER = 2\nimport ", {"inference"}),
        ("tiers/inference/truth_server.py", "import argparse", "import argparse\nSLOWER = 2", {"inference"}),
        ("tiers/reasoning/quantities.py", "import re\n", "import re\nMORE = 1\n", {"reasoning"}),
        ("statistics/multiplicity.py", "1.0)", "0.9)", {"selection"}),
        (
            "statistics/normal.py",
            "(1 + level) / 2",
            "(1 + level) / 3",
            {"inference", "reasoning", "retrieval", "selection"},
        ),
        ("selection/policies/seed.yaml", "\n", "\n# another\n", {"selection"}),
        ("edge/manifest.py", "import ", "MORE = 1\nimport ", {"bundle"}),
    ],
    ids=["stream", "truth-server", "quantities", "multiplicity", "normal", "policy", "manifest"],
)
def test_a_change_deep_down_changes_the_versions_of_those_who_rest_on_it(
    copy: Path, module: str, old: str, new: str, changed: set[str]
) -> None:
    # The imports of a module stand below `from __future__`, which must stay first.
    def change(text: str) -> str:
        head, mark, rest = text.partition("from __future__ import annotations\n")
        return head.replace(old, new, 1) if not mark else head + mark + rest.replace(old, new, 1)

    before = versions(copy)
    edit(copy, module, change)
    after = versions(copy)
    assert {name for name in OWNERS if before[name] != after[name]} == changed


def test_docstrings_comments_and_layout_change_nothing(copy: Path) -> None:
    before = versions(copy)
    assert before == {name: ask() for name, ask in OWNERS.items()}
    for path in (copy / "milton_assets").rglob("*.py"):
        text = path.read_text()
        path.write_text('"""Another docstring."""\n\n# and a comment\n' + text.partition('"""\n')[2] + "\n\n\n")
    edit(copy, "tiers/inference/stream.py", lambda text: text.replace("    def ", "    # why\n\n    def "))
    assert versions(copy) == before


def module(folder: Path, name: str, text: str) -> None:
    path = folder / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's package, which lies on the path but is not imported."""
    name = f"users_{tmp_path.name.replace('-', '_')}"
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / name
    module(folder, "__init__", "")
    return folder


def test_a_users_tier_counts_with_what_it_imports_of_its_own_package_and_of_ours(package: Path) -> None:
    top = package.name
    module(package, "tier", "from .deep import far\nfrom milton_assets.statistics.shares import wilson\nimport json\n")
    module(package, "deep/__init__", "from . import far\n")
    module(package, "deep/far", "def late():\n    from ..late import LATE\n    return LATE\n")
    module(package, "late", "LATE = 1\n")
    module(package, "other", "")
    reached = modules_reached([f"{top}.tier"], {top, "milton_assets"})
    assert {name for name in reached if name.startswith(top)} == {f"{top}.{m}" for m in ("tier", "deep.far", "late")}
    assert "milton_assets.statistics.shares" in reached
    assert "milton_assets.statistics.normal" in reached
    assert not any(name.startswith("json") for name in reached)


def test_what_only_a_type_checker_imports_does_not_count(package: Path) -> None:
    top = package.name
    module(package, "tier", f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {top}.heavy\n")
    module(package, "heavy", "")
    assert list(modules_reached([f"{top}.tier"], {top})) == [f"{top}.tier"]


def test_a_circle_of_imports_ends(package: Path) -> None:
    top = package.name
    module(package, "one", f"import {top}.two\n")
    module(package, "two", f"import {top}.one\n")
    assert list(modules_reached([f"{top}.one"], {top})) == [f"{top}.one", f"{top}.two"]


def test_a_module_or_library_that_is_not_there_is_said(package: Path) -> None:
    module(package, "tier", f"from {package.name}.gone.far import away\n")
    with pytest.raises(BadInput, match="there is no module"):
        code_version(f"{package.name}.tier")
    with pytest.raises(BadInput, match="no-such-library is not installed"):
        code_version("milton_assets.statistics.shares", libraries=("no-such-library",))


def test_a_data_file_counts_by_its_bytes(tmp_path: Path) -> None:
    found = set()
    for number, text in enumerate(("a", "b", "a")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "data.txt").write_text(text)
        found.add(code_version("milton_assets.statistics.shares", files=(folder / "data.txt",)))
    assert len(found) == 2
