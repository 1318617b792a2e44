"""What is pinned: every library that pyproject.toml names, in both files, at a version that it allows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LINES = (*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra))
NAMED = [one for one in map(Requirement, LINES) if one.name != PROJECT["name"]]


def test_a_developer_has_every_extra() -> None:
    (ours,) = (one for one in map(Requirement, EXTRAS["dev"]) if one.name == PROJECT["name"])
    assert ours.extras == EXTRAS.keys() - {"dev"}


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-newest.txt"])
def test_every_library_is_pinned_at_a_version_that_is_allowed(file: str) -> None:
    lines = [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []
    pinned = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    unpinned = [str(r) for r in NAMED if pinned.get(canonicalize_name(r.name)) is None]
    refused = [str(r) for r in NAMED if r.name not in unpinned and not _allowed(r, pinned)]
    assert (unpinned, refused) == ([], [])


def _allowed(requirement: Requirement, pinned: dict[str, str]) -> bool:
    version = pinned.get(canonicalize_name(requirement.name))
    return version is not None and requirement.specifier.contains(version, prereleases=True)
