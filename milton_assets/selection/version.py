"""The version of what decides: a digest of this package's sources, its policies and the libraries that compute.

What belongs here: that digest. What does not: the version of one policy (`policy`) or of the
decision's JSON (`decision`).
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from milton_assets.vocabulary.digest import sha256_file, sha256_json

_LIBRARIES = ("numpy", "scipy")


def code_version() -> str:
    """A digest that changes whenever equal evidence might be decided or explained otherwise."""
    folder = Path(__file__).parent
    sources = {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in (*folder.glob("*.py"), *folder.glob("policies/*.yaml"))
    }
    return sha256_json({"sources": sources, "libraries": {name: version(name) for name in _LIBRARIES}})
