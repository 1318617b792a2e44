"""One model, served by itself: a registered version or a GGUF file that is in no registry, for as long as it is wanted.

    with served(settings, gguf_file(Path("model-q4_0.gguf"))) as running: ...

What belongs here: what is to be served, and serving it as an edge target would. What does not: what is asked of it
(`milton bench`), campaigns, which serve each candidate as `server` says, and targets, whose releases `edge.serving`
serves without a failed request while they change.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from milton_assets.settings import Settings
from milton_assets.usecases.compose import edge_server_of, registry_of
from milton_assets.vocabulary.artefact_files import artefact_files, check_gguf, without_part
from milton_assets.vocabulary.server import RunningServer
from resources.servers.identity import digest_of, verified_serving


@dataclass(frozen=True)
class OneModel:
    """What is served: the name it answers to, where it lies, and its digest, which must hold before and after."""

    name: str
    path: Path
    sha256: str


def registered(settings: Settings, version: str) -> OneModel:
    """A version of the registry. Raises `BadInput` for one that is not there, or not as the registry has it."""
    artefact = registry_of(settings).entry(version).artefact(settings.artifact)
    return OneModel(version, Path(artefact.path), artefact.sha256)


def gguf_file(path: Path, name: str | None = None) -> OneModel:
    """A GGUF file, or the first part of a split one, by `name` or the file's own. Raises `BadInput` for no model."""
    absolute = path.absolute()
    check_gguf(artefact_files(absolute))
    return OneModel(name or without_part(absolute.name), absolute, digest_of(absolute))


@contextmanager
def served(
    settings: Settings, model: OneModel, *, slots: int | None = None, port: int | None = None
) -> Iterator[RunningServer]:
    """Serve `model` on this machine as the setting `edge_server` says, on `port` or a free one.

    Raises `ServerFailed` with the server's last lines, or when the file is another than it was.
    """
    launcher = edge_server_of(settings).listening_at(port, slots=slots)
    with verified_serving(launcher, model.path, model.name, model.sha256) as running:
        yield running
