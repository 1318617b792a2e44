"""What a device and a verb over targets need is small: none of the libraries that measuring and deciding take."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"dagster", "matplotlib", "numpy", "pandas", "pyarrow", "scipy"}
OF_SERVERS = {"h11", "httpx", "pynvml"}


def libraries_of(package: str) -> set[str]:
    """What a process has loaded that imported it and did nothing else."""
    code = f"import sys, milton_assets.{package}; print(*sorted({{n.split('.')[0] for n in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "milton_assets" in loaded
    return loaded


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
        "selection.summary",
    ],
)
def test_it_imports_nothing_heavy(package: str) -> None:
    assert not libraries_of(package) & HEAVY


@pytest.mark.parametrize("package", ["cli.app", "usecases.targets", "agent.device"])
def test_nothing_that_serves_or_times_a_model_is_loaded_before_one_is_tried(package: str) -> None:
    assert not libraries_of(package) & (HEAVY | OF_SERVERS)
