"""The incumbent, served beside a challenger for as long as both are measured in turn, where that can be.

What belongs here: finding its weights in the registry, and whether there is room and a server for them. What does not:
who serves (`incumbent`), measuring in turn (`milton_assets.tiers.inference.beside`), and starting servers
(`resources.servers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from milton_assets.usecases.weights import bring
from milton_assets.vocabulary.errors import MiltonError, ServerFailed
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.registry import Artefact, ArtefactKind, RegistryStore
from milton_assets.vocabulary.server import Launcher, RunningServer
from milton_assets.vocabulary.tier_spec import Incumbent
from resources.servers.identity import verified_serving
from resources.servers.memory import why_no_room


def incumbent_beside(
    version: str,
    registry: RegistryStore,
    kind: ArtefactKind,
    launcher: Launcher | None,
    *,
    on_note: Callable[[str], object],
) -> Incumbent | None:
    """The registered `version`, which `launcher` serves; None, and noted, where it has no such artefact that holds.

    Without a launcher, where one model is served at a time by somebody else, or without room, serving it raises
    `ServerFailed` with the reason.
    """
    try:
        artefact = registry.judged(version).artefact(kind)
    except MiltonError as error:
        on_note(f"{version}, which serves, is measured beside nobody: {error}")
        return None
    weights = NamedWeights(version, artefact.sha256)
    return Incumbent(weights, lambda: _served(version, artefact, launcher, registry))


@contextmanager
def _served(
    version: str, artefact: Artefact, launcher: Launcher | None, registry: RegistryStore
) -> Iterator[RunningServer]:
    if launcher is None:
        raise ServerFailed(
            f"{version} cannot be served beside the model under test: the server is one that somebody else runs",
            remedy="measure with a server that is started per candidate (MILTON_SERVER=llama.cpp)",
        )
    if (why := why_no_room(artefact.size_bytes)) is not None:
        raise ServerFailed(f"{version} {why}")
    brings = partial(bring, registry, version, artefact)
    with verified_serving(launcher, Path(artefact.path), version, artefact.sha256, bring=brings) as served:
        yield served
