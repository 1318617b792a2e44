"""An edge target: one device, or one path on this machine, that releases are deployed to.

What belongs here: what names and locates a target. What does not: what lies in it (`milton_assets.edge.deployment`)
and which targets there are (`milton_assets.fleet.targets`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import check_key
from milton_assets.vocabulary.ownership import Owner
from milton_assets.vocabulary.state import StateDir

DEFAULT_TARGET = "local"
"""The target that is meant where none is named; it lies in the state folder."""
DEFAULT_CLASS = "local"
"""The device class of a target that names none: devices like this machine."""


def class_decided_for(target: str, classes: Mapping[str, str], references: Mapping[str, str]) -> str | None:
    """The device class whose own winner that target gets, by the targets' classes and the classes' reference devices;
    None: its class has no reference, and it gets the winner by the controller's speeds."""
    name = classes.get(target, DEFAULT_CLASS)
    return name if name in references else None


@dataclass(frozen=True)
class EdgeTarget:
    """A named folder that holds releases. `history_file` is where its history is mirrored, if anywhere.

    `state` is the state folder from which it is spoken to: what is kept names paths inside that relative to it. `owner`
    is that folder as the target is to record it; None for a target that lies inside, which is its by place.
    Raises `BadInput` for a name that is no slug or a path that is not absolute.
    """

    name: str
    path: Path
    history_file: Path | None = None
    state: StateDir | None = None
    owner: Owner | None = None

    def __post_init__(self) -> None:
        check_key(self.name, "target name")
        if not self.path.is_absolute():
            raise BadInput(f"the target path {str(self.path)!r:.300} is relative", expected="an absolute path")

    def tell(self, path: Path) -> str:
        """How what is kept names `path`; see `StateDir.tell`."""
        return str(path.absolute()) if self.state is None else self.state.tell(path)

    def place(self, told: str) -> str:
        """The inverse of `tell`."""
        return told if self.state is None else str(self.state.place(told))


def mirror_file(state: StateDir, name: str) -> Path:
    """Where `state` keeps its copy of that target's history."""
    return state.deployment_history / f"{name}.jsonl"


def target_in(state: StateDir, name: str, folder: Path | None = None) -> EdgeTarget:
    """The target of that name that lies in `folder`, or else in the state folder, and is mirrored there."""
    return EdgeTarget(name, folder or state.deployments / name, mirror_file(state, name), state)
