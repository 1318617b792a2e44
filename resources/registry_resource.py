"""The registry as a Dagster resource (this module imports Dagster; the command line uses `resources.registry`).

What belongs here: configuration and the questions assets ask. What does not: how the file is read.
See https://docs.dagster.io/guides/build/external-resources
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from dagster import ConfigurableResource
from pydantic import Field, field_validator

from milton_assets.settings import Settings
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import Registry, RegistryEntry
from milton_assets.vocabulary.state import StateDir
from resources.registry import (
    PastDecision,
    best_version,
    past_decisions,
    read_entry,
    read_registry,
)


class RegistryResource(ConfigurableResource):  # type: ignore[type-arg]
    """The registry below a state folder. Nothing is read before it is asked for."""

    state_root: str = Field(description="The state folder, see MILTON_STATE_DIR.")
    artefact_roots: list[str] = Field(
        default_factory=list, description="Further folders that may hold artefacts, see MILTON_ARTEFACT_ROOTS."
    )

    @field_validator("state_root", "artefact_roots")
    @classmethod
    def _absolute(cls, value: str | list[str]) -> str | list[str]:
        for path in [value] if isinstance(value, str) else value:
            if not Path(path).is_absolute():
                raise BadInput(f"the folder {path!r} is relative", expected="an absolute path")
        return value

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The registry that the settings describe."""
        return cls(state_root=str(settings.state_dir), artefact_roots=[str(root) for root in settings.artefact_roots])

    def read(self, hash_budget_s: float | None = None) -> Registry:
        """The registry now. A sensor gives `hash_budget_s`, see `resources.registry.read_registry`."""
        state = self._state
        return read_registry(
            state.registry,
            state.root,
            extra_roots=self._extra_roots,
            cache=state.digest_cache,
            hash_budget_s=hash_budget_s,
        )

    def candidates(self) -> tuple[RegistryEntry, ...]:
        """Entries with status `candidate`, oldest first."""
        return self.read().candidates()

    def entry(self, version: str) -> RegistryEntry:
        """That version's entry. Raises `BadInput` when it is quarantined or unknown, with the reason."""
        state = self._state
        return read_entry(state.registry, state.root, version, extra_roots=self._extra_roots, cache=state.digest_cache)

    def best(self) -> PastDecision | None:
        """The newest decision that promoted a version: the best model on past evidence."""
        return best_version(past_decisions(self._state.runs))

    @property
    def _state(self) -> StateDir:
        return StateDir(Path(self.state_root))

    @property
    def _extra_roots(self) -> tuple[Path, ...]:
        return tuple(Path(root) for root in self.artefact_roots)
