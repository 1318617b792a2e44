"""Keep one checked server over several `with` blocks, so that a model is loaded once for all that is asked of it.

    with KeptServer() as held:
        with held.serve(launcher, path, "v1", sha256) as served: ...   # starts it
        with held.serve(launcher, path, "v1", sha256) as served: ...   # finds it running

What belongs here: when a kept server may be used again, and noticing between blocks that it died or its files changed.
What does not: starting and checking it (`identity`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from milton_assets.vocabulary.artefact_files import artefact_files
from milton_assets.vocabulary.errors import ServerFailed
from milton_assets.vocabulary.server import Attaches, Launcher, RunningServer
from resources.file_facts import Identity
from resources.servers.identity import Bring, check_told, nothing, verified_serving
from resources.servers.probe import probe


@dataclass(frozen=True)
class _Kept:
    launcher: Launcher
    sha256: str
    model: str
    served: RunningServer
    files: dict[str, Identity]
    """Empty where the server told the digest of what it loaded, and no file was wanted."""


def identities(artefact: Path) -> dict[str, Identity]:
    """The identity of every file of the artefact, by its name within. Raises `OSError`, and as `artefact_files`."""
    return {name: Identity.of(file) for name, file in artefact_files(artefact).items()}


class KeptServer:
    """Holds at most one server; another artefact, name or server replaces it. For one thread at a time."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._kept: _Kept | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server, if one runs. Raises `ServerFailed` when it had ended on its own, or its files changed."""
        self._kept = None
        self._stack.close()

    @contextmanager
    def serve(
        self, launcher: Launcher, artefact: Path, model: str, sha256: str, *, bring: Bring = nothing
    ) -> Iterator[RunningServer]:
        """The server that is kept, when it serves just this, else one that is started and checked now.

        Raises as `verified_serving`, whose `bring` this is, and `ServerFailed` when by the block's end the server has
        died, tells another digest, or the artefact's files are not those that it was started on. An error of the
        block's own gets a death as a note.
        """
        kept = self._kept
        if kept is None or (kept.launcher, kept.sha256, kept.model) != (launcher, sha256, model):
            self.close()
            files: dict[str, Identity] = {}

            def bring_and_look() -> None:
                bring()
                files.update(identities(artefact))

            served = self._stack.enter_context(
                verified_serving(launcher, artefact, model, sha256, bring=bring_and_look)
            )
            kept = self._kept = _Kept(launcher, sha256, model, served, files)
        try:
            yield kept.served
        except Exception as error:
            try:
                self._check_alive(kept)
            except ServerFailed as death:
                error.add_note(str(death))
            raise
        self._check_alive(kept)
        if not kept.files and isinstance(launcher, Attaches):
            check_told(launcher, artefact, model, sha256)
        elif identities(artefact) != kept.files:
            raise ServerFailed(
                f"{artefact} changed while {model} was measured",
                expected="the registered artefact from start to end",
                remedy="register the new files, and benchmark again",
            )

    def _check_alive(self, kept: _Kept) -> None:
        endpoint = kept.served.endpoint
        try:
            probe(endpoint.base_url, endpoint.model, endpoint.api_key)
        except ServerFailed:
            # A server that we launched says more when it is closed: how it ended, and its last lines.
            self.close()
            raise
