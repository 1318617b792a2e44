"""A registered artefact's files on this machine, at the moment when they are wanted.

    with model_server.serve(artefact, version, bring=partial(bring, registry, version, artefact)) as served: ...

What belongs here: asking the registry for the files of an artefact that was judged without them. What does not:
fetching and verifying (`resources.registries`), and when files are wanted (`resources.servers.identity`).
"""

from __future__ import annotations

from pathlib import Path

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import Artefact, RegistryStore


def bring(registry: RegistryStore, version: str, artefact: Artefact) -> None:
    """Have the files of that version's artefact where its path says; the registry is asked only where they are not.

    Raises `BadInput` when the registry has others by now, or they are not of the digest that it has, and as
    `RegistryStore.entry`.
    """
    if Path(artefact.path).exists():
        return
    found = registry.entry(version).find(artefact.kind)
    if found is None or (found.sha256, found.path) != (artefact.sha256, artefact.path):
        now = f"the {artefact.kind} artefact {found.sha256}" if found else f"no {artefact.kind} artefact"
        raise BadInput(
            f"{registry.uri} has {now} of {version} now",
            expected=f"{artefact.sha256}, as when its entry was read",
            remedy="benchmark the version again",
        )
