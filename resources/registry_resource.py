"""The registry as a Dagster resource (this module imports Dagster; the command line opens `resources.registries`).

What belongs here: configuration and the questions assets ask. What does not: any registry.
See https://docs.dagster.io/guides/build/external-resources
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from dagster import ConfigurableResource
from pydantic import Field, field_validator

from milton_assets.settings import Settings
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import Registry, RegistryEntry, RegistryStore
from milton_assets.vocabulary.state import StateDir
from resources.registries import open_registry
from resources.registries.artefacts import ArtefactReader, Surroundings


class RegistryResource(ConfigurableResource):  # type: ignore[type-arg]
    """The registry at a URI, by default that below the state folder. Nothing is read before it is asked for."""

    state_root: str = Field(description="The state folder, see MILTON_STATE_DIR.")
    uri: str | None = Field(default=None, description="Which registry; by default the state folder's registry.json.")
    artefact_roots: list[str] = Field(
        default_factory=list, description="Further folders that may hold artefacts, see MILTON_ARTEFACT_ROOTS."
    )
    allow_code: list[str] = Field(
        default_factory=list, description="Versions that may hold pickles and code, see allow_model_code."
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
        """The registry that the settings name."""
        return cls(
            state_root=str(settings.state_dir),
            uri=settings.registry,
            artefact_roots=[str(root) for root in settings.artefact_roots],
            allow_code=list(settings.allow_model_code),
        )

    def store(self) -> RegistryStore:
        """The registry itself. Raises `BadInput` for a URI that no registry is for."""
        return open_registry(
            self.uri,
            StateDir(Path(self.state_root)),
            artefact_roots=map(Path, self.artefact_roots),
            allow_code=self.allow_code,
        )

    def files(self) -> ArtefactReader:
        """What finds and judges files beside the registered artefacts, in the state folder and the artefact roots."""
        state = StateDir(Path(self.state_root))
        around = Surroundings(state, tuple(map(Path, self.artefact_roots)))
        return ArtefactReader(state.root, (state.root, *around.artefact_roots), around.facts())

    def read(self, hash_budget_s: float | None = None) -> Registry:
        """The registry now, see `RegistryStore.read`."""
        return self.store().read(hash_budget_s=hash_budget_s)

    def entry(self, version: str) -> RegistryEntry:
        """That version's entry and its files, see `RegistryStore.entry`."""
        return self.store().entry(version)

    def judged(self, version: str) -> RegistryEntry:
        """That version's entry, see `RegistryStore.judged`."""
        return self.store().judged(version)
