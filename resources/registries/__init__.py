"""Registries, found by the scheme of their URI.

    store = open_registry(None, state)                                       # models/registry.json in the state folder
    store = open_registry("folder:///data/gguf", state)                      # a folder of GGUF files
    store = open_registry("s3://bucket/models/registry.json", state)         # a file that every host finds
    store = open_registry("mlflow+http://models.example:5000/#edge", state)  # a registered model of MLflow's

What belongs here: which registries there are and opening one; the package holds one module a registry. An installed
package adds a scheme by an entry point of the group `milton.registries`: its name is the scheme, its value a callable
that takes the URI and the `Surroundings` and returns a `RegistryStore`. What does not: Dagster
(`resources.registry_resource` wraps what is opened here), and what a registry is (`vocabulary.registry`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from urllib.parse import urlsplit

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import RegistryStore
from milton_assets.vocabulary.state import StateDir
from resources.registries.artefacts import Surroundings, local_path
from resources.registries.folder import open_folder
from resources.registries.json_file import JsonRegistry

GROUP = "milton.registries"

Opener = Callable[[str, Surroundings], RegistryStore]


def open_registry(
    uri: str | None,
    state: StateDir,
    *,
    artefact_roots: Iterable[Path] = (),
    allow_code: Iterable[str] = (),
) -> RegistryStore:
    """The registry at `uri`; without one, the JSON file in the state folder. Nothing is read yet.

    `artefact_roots` are folders beside the state folder where artefacts may lie, `allow_code` versions whose pickles
    and own code are accepted. Raises `BadInput` for a URI that no registry is for.
    """
    around = Surroundings(state, tuple(artefact_roots), frozenset(allow_code))
    if not uri:
        return JsonRegistry(state.registry, state.root, around)
    scheme = "file" if uri.startswith("/") else urlsplit(uri).scheme
    if scheme in OPENERS:
        return OPENERS[scheme](uri, around)
    others = {point.name: point for point in entry_points(group=GROUP)}
    if scheme in others:
        return _load(others[scheme])(uri, around)
    raise BadInput(
        f"the registry {uri.partition('://')[0]!r:.100} is of no kind that is known here",
        expected=f"a path, or a URI of the scheme {', '.join(sorted({*OPENERS, *others}))}",
        remedy="correct MILTON_REGISTRY; without one, models/registry.json in the state folder is read",
    )


def open_json(uri: str, around: Surroundings) -> RegistryStore:
    """A JSON file anywhere: relative artefact paths count from its folder."""
    path = local_path(uri)
    return JsonRegistry(path, around.state.root if path == around.state.registry else path.parent, around)


def open_mlflow(uri: str, around: Surroundings) -> RegistryStore:
    """A registered model of MLflow's; its client is not imported for other registries."""
    from resources.registries import mlflow

    return mlflow.open_mlflow(uri, around)


def open_object(uri: str, around: Surroundings) -> RegistryStore:
    """A JSON file in an object store; what speaks to it is not imported for other registries."""
    from resources.registries import object_store

    return object_store.open_object(uri, around)


OPENERS: dict[str, Opener] = {
    "file": open_json,
    "folder": open_folder,
    "mlflow+http": open_mlflow,
    "mlflow+https": open_mlflow,
    "s3": open_object,
    "gs": open_object,
}


def _load(point: EntryPoint) -> Opener:
    try:
        opener: Opener = point.load()
    except Exception as error:
        raise BadInput(
            f"the registry {point.name} of {point.value} cannot be loaded ({type(error).__name__}: {error})",
            remedy="mend or remove the package that brings it",
        ) from error
    return opener
