"""The version of what decides and explains.

What belongs here: which code, libraries and policies that is. What does not: the rule (`vocabulary.code_version`), the
version of one policy (`policy`) and of the decision's JSON (`decision`).
"""

from __future__ import annotations

from pathlib import Path

from milton_assets.vocabulary.code_version import code_version as version_of_code


def code_version() -> str:
    """A digest that changes whenever equal evidence might be decided or explained otherwise."""
    package = "milton_assets.selection"
    return version_of_code(
        *(f"{package}.{module}" for module in ("decide", "policy_file", "summary", "card", "plots")),
        libraries=("numpy", "scipy"),
        files=tuple(sorted((Path(__file__).parent / "policies").glob("*.yaml"))),
    )
