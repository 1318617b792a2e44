"""What a device needs to check and run releases is small: none of the libraries that measuring and deciding take."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("dagster", "matplotlib", "numpy", "pandas", "pyarrow", "scipy")


@pytest.mark.parametrize(
    "package",
    [
        "edge.release",
        "edge.deployment",
        "edge.deployment.admission",
        "edge.bundle",
        "edge.bundle.delta",
        "agent.serving",
        "edge.serving.service",
        "usecases.serving",
        "tiers.reasoning.marking",
        "usecases.probe",
    ],
)
def test_it_imports_nothing_heavy(package: str) -> None:
    code = f"import sys, milton_assets.{package}; print(*sorted({{n.split('.')[0] for n in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "milton_assets" in loaded
    assert not loaded & set(HEAVY)
