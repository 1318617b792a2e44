"""An edge target: one device, or one path on this machine, that releases are deployed to.

What belongs here: what names and locates a target. What does not: what lies in it (`milton_assets.edge.deployment`)
and which targets there are (`milton_assets.fleet.targets`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import check_key

DEFAULT_TARGET = "local"
"""The target that is meant where none is named; it lies in the state folder."""


@dataclass(frozen=True)
class EdgeTarget:
    """A named folder that holds releases. `history_file` is where its history is mirrored, if anywhere.

    Raises `BadInput` for a name that is no slug or a path that is not absolute.
    """

    name: str
    path: Path
    history_file: Path | None = None

    def __post_init__(self) -> None:
        check_key(self.name, "target name")
        if not self.path.is_absolute():
            raise BadInput(f"the target path {str(self.path)!r:.300} is relative", expected="an absolute path")
