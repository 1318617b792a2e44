"""Finding tiers: those that ship, and those of packages, whose faults name the package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from milton_assets.tiers.discovery import SHIPPED, BrokenTier, installed_tiers
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.tier_spec import NoSuchTier, Tiers

Install = Callable[[str, str, str], None]

SPEC = """
from dataclasses import replace
from milton_assets.tiers.reasoning.spec import SPEC as REASONING
SPEC = replace(REASONING, name={name!r}, goldens=())
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """A package with one module and one entry point, as an installer leaves it on the path."""

    def put(name: str, module: str, code: str) -> None:
        (tmp_path / f"{module}.py").write_text(code)
        about = tmp_path / f"{module}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: dist-of-{module}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[milton.tiers]\n{name} = {module}:SPEC\n")
        monkeypatch.syspath_prepend(tmp_path)

    return put


def test_the_tiers_that_ship_are_there_in_the_order_in_which_they_are_measured() -> None:
    assert [spec.name for spec in SHIPPED] == ["inference", "reasoning", "retrieval", "fidelity"]
    assert list(installed_tiers())[:4] == ["inference", "reasoning", "retrieval", "fidelity"]


def test_a_packages_tier_follows_those_that_ship(install: Install) -> None:
    install("politeness", "their_tier", SPEC.format(name="politeness"))
    assert list(installed_tiers()) == ["inference", "reasoning", "retrieval", "fidelity", "politeness"]


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("broken", "import nothing_of_that_name", "cannot be imported: ModuleNotFoundError"),
        ("broken", "1 / 0", "cannot be imported: ZeroDivisionError"),
        ("broken", "SPEC = 'a tier'", "which is a str"),
        ("broken", SPEC.format(name="another"), "whose spec is named 'another'"),
        ("reasoning", SPEC.format(name="reasoning"), "a name that ships"),
    ],
    ids=["missing import", "raises", "no spec", "two names", "taken name"],
)
def test_a_broken_package_is_named(install: Install, name: str, code: str, says: str) -> None:
    module = f"broken_tier_{abs(hash((name, code)))}"
    install(name, module, code)
    with pytest.raises(BrokenTier, match=says) as raised:
        installed_tiers()
    assert f"dist-of-{module}" in str(raised.value)
    assert f"correct or uninstall dist-of-{module}" in str(raised.value)


def test_a_tier_that_is_not_installed_is_said_so_with_those_that_are() -> None:
    with pytest.raises(NoSuchTier, match=r"no tier 'poetry' is installed.*one of inference, .*install the package"):
        _ = Tiers(SHIPPED)["poetry"]
    assert Tiers(SHIPPED).get("poetry") is None


def test_two_tiers_of_one_name_are_refused() -> None:
    with pytest.raises(BadInput, match="two tiers reasoning"):
        Tiers((*SHIPPED, SHIPPED[1]))


def test_the_command_line_loads_no_tier_until_one_is_asked_for() -> None:
    code = "import sys; from milton_assets.cli.app import build_app; build_app(); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
