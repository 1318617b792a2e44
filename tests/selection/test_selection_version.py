"""The version of what decides: it follows the sources and the policies."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import milton_assets
from milton_assets.selection import code_version

PACKAGE = Path(milton_assets.__file__).parent


def test_the_version_follows_sources_and_policies(tmp_path: Path) -> None:
    for needed in ("__init__.py", "vocabulary", "statistics", "selection"):
        source, copy = PACKAGE / needed, tmp_path / "milton_assets" / needed
        copy.parent.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)

    def version() -> str:
        asked = "from milton_assets.selection import code_version; print(code_version())"
        command = [sys.executable, "-B", "-c", asked]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    assert version() == code_version()
    seen = {version()}
    for name in ("policies/seed.yaml", "choose.py"):
        with (tmp_path / "milton_assets" / "selection" / name).open("a") as stream:
            stream.write("# another\n")
        seen.add(version())
    assert len(seen) == 3
