"""What we keep of a registry that does not keep it itself: which versions are retired, and which have an alias.

What belongs here: that one small file in the state folder. What does not: registries that hold both themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.registry import RegistryUnreadable

LOCK_TIMEOUT_S: Final = 30.0


class Kept(BaseModel):
    """What is kept: versions that were retired, and versions by alias."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    retired: tuple[Slug, ...] = ()
    aliases: dict[Slug, Slug] = {}


@dataclass(frozen=True)
class Beside:
    """The file at `path`; nothing is kept while there is none."""

    path: Path

    def read(self) -> Kept:
        """What is kept now. Raises `RegistryUnreadable`."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return Kept()
        except OSError as error:
            raise RegistryUnreadable(f"{self.path} cannot be read ({error})") from error
        try:
            return Kept.model_validate_json(raw)
        except ValidationError as error:
            raise RegistryUnreadable(
                f"{self.path} does not hold ({error.error_count()} faults)",
                expected="what `milton registry` wrote: retired versions and aliases",
                remedy="restore the file; without it, nothing is retired and nothing has an alias",
            ) from error

    def retire(self, version: str) -> bool:
        """Keep that the version is retired. False when it was kept already."""
        changed = False

        def change(kept: Kept) -> Kept:
            nonlocal changed
            changed = version not in kept.retired
            return kept.model_copy(update={"retired": (*kept.retired, version)}) if changed else kept

        self._edit(change)
        return changed

    def set_alias(self, alias: str, version: str | None) -> None:
        """Keep that the version, or none, has the alias."""

        def change(kept: Kept) -> Kept:
            others = {name: whose for name, whose in kept.aliases.items() if name != alias}
            return kept.model_copy(update={"aliases": others if version is None else {**others, alias: version}})

        self._edit(change)

    def _edit(self, change: Callable[[Kept], Kept]) -> None:
        with locked(self.path.with_name(f".{self.path.name}.lock"), timeout_s=LOCK_TIMEOUT_S):
            before = self.read()
            after = change(before)
            if after != before:
                write_atomic(self.path, after.model_dump_json(indent=1) + "\n")
