"""Which edge targets there are: named ones in the state folder, and custom paths.

    targets = EdgeTargets(StateDir(Path("/var/lib/milton")))
    target = targets.resolve(name="kitchen-pi")

What belongs here: names, paths and where each target's history is mirrored. What does not: what lies in a target and
how it changes (`milton_assets.edge.deployment`), and Dagster.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import SLUG, check_key
from milton_assets.vocabulary.state import StateDir

DEFAULT_TARGET = "local"
_NO_SLUG = re.compile(r"[^A-Za-z0-9_-]+")
_MAX_STEM = 40


@dataclass(frozen=True)
class EdgeTargets:
    """The targets of one state folder. `elsewhere` gives named targets a path outside it."""

    state: StateDir
    elsewhere: Mapping[str, Path] = field(default_factory=dict)

    def named(self, name: str) -> EdgeTarget:
        """The target of that name: where `elsewhere` or its history says it lies, else in the state folder.

        Raises `BadInput` for a name that is no slug.
        """
        check_key(name, "target name")
        mirror = self._mirror(name)
        path = self.elsewhere.get(name) or _mirrored_path(mirror) or self.state.deployments / name
        return EdgeTarget(name, path, mirror)

    def at(self, path: Path) -> EdgeTarget:
        """The target at a custom path. It is named for the path, and found by that name from then on."""
        path = path.expanduser().absolute().resolve()
        if path.parent == self.state.deployments.resolve() and SLUG.fullmatch(path.name):
            return self.named(path.name)
        for name, elsewhere in self.elsewhere.items():
            if elsewhere.resolve() == path:
                return self.named(name)
        stem = _NO_SLUG.sub("-", path.name).strip("-_")[:_MAX_STEM] or "root"
        name = f"path-{stem}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
        return EdgeTarget(name, path, self._mirror(name))

    def resolve(self, *, name: str | None = None, path: Path | None = None) -> EdgeTarget:
        """The target that a user means: by name, by path, or the default. Raises `BadInput` when both are given."""
        if name is not None and path is not None:
            raise BadInput("both a target's name and a path were given", expected="--target NAME or --target-path DIR")
        return self.at(path) if path is not None else self.named(name or DEFAULT_TARGET)

    def all(self) -> tuple[EdgeTarget, ...]:
        """Every target that was ever deployed to and every named one, by name."""
        here = {p.name for p in _entries(self.state.deployments) if p.is_dir() and SLUG.fullmatch(p.name)}
        mirrored = {p.stem for p in _entries(self.state.deployment_history) if p.suffix == ".jsonl"}
        names = here | {name for name in mirrored if SLUG.fullmatch(name)} | set(self.elsewhere)
        return tuple(self.named(name) for name in sorted(names))

    def _mirror(self, name: str) -> Path:
        return self.state.deployment_history / f"{name}.jsonl"


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _mirrored_path(mirror: Path) -> Path | None:
    """Where the target's latest deployment lay, according to the mirror of its history."""
    if not mirror.exists():
        return None
    lines = mirror.read_text(encoding="utf-8").splitlines()
    try:
        path = Path(json.loads(lines[-1])["target_path"])
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"the last line of {mirror} names no target path ({type(error).__name__})",
            expected="a deployment a line",
            remedy="move the file away; it is written anew from the target's journal",
        ) from None
    if not path.is_absolute():
        raise BadInput(f"{mirror} names the relative target path {str(path)!r:.200}", expected="an absolute path")
    return path
