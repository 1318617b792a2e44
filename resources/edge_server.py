"""A model server for whatever an edge release holds: llama.cpp for a GGUF file, vLLM for a Hugging Face directory.

What belongs here: the choice between the two, and configuring it as a health contract says. What does not: the servers
(`resources.servers`) and what is asked of them (`milton_assets.edge.deployment.loadtest`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from milton_assets.settings.model import LLAMA_CPP
from milton_assets.vocabulary.server import Launcher, RunningServer, ServingSettings
from resources.hardware import usable_cores
from resources.servers.llama_cpp import LlamaCppLauncher
from resources.servers.vllm import VLLMLauncher


@dataclass(frozen=True)
class LlamaServer:
    """A `llama-server`, and how many layers it is told to put on GPUs (`LlamaCppLauncher.planned_gpu_layers`)."""

    program: str
    gpu_layers: int | None = None


@dataclass(frozen=True)
class EdgeServer:
    """Serves a release's model on a port of its own; implements `edge.deployment.loadtest.EdgeLauncher`. `program` is
    the one that the settings are of; the other has its defaults."""

    file: Launcher = field(default_factory=LlamaCppLauncher)
    directory: Launcher = field(default_factory=VLLMLauncher)
    program: str = LLAMA_CPP

    def serve(self, artefact: Path, model: str) -> AbstractContextManager[RunningServer]:
        """Serve `artefact` under the name `model`. Raises `ServerFailed` with the server's last lines."""
        return self._for(artefact).serve(artefact, model)

    def settings(self, artefact: Path) -> ServingSettings | None:
        """What `artefact` is served with; None when the server is not one that is launched here."""
        match self._for(artefact):
            case LlamaCppLauncher() as launcher:
                threads = launcher.threads or usable_cores()
                return ServingSettings(context_tokens=launcher.context_tokens, slots=launcher.slots, threads=threads)
            case VLLMLauncher() as launcher:
                return ServingSettings(context_tokens=launcher.context_tokens, slots=launcher.slots)
            case _:
                return None

    def llama_server(self) -> LlamaServer | None:
        """What GGUF files are served with; None for the one in the wheel. Raises `BadInput` where it is not there."""
        if not isinstance(self.file, LlamaCppLauncher) or (program := self.file.program()) is None:
            return None
        return LlamaServer(program, self.file.planned_gpu_layers())

    def configured(self, settings: ServingSettings) -> EdgeServer:
        """The same server with these settings."""
        return replace(self, file=_configured(self.file, settings), directory=_configured(self.directory, settings))

    def listening_at(self, port: int | None, *, slots: int | None = None) -> EdgeServer:
        """The same server at that port of 127.0.0.1 (None: a free one), with so many slots (None: as it is)."""
        return replace(
            self, file=_listening_at(self.file, port, slots), directory=_listening_at(self.directory, port, slots)
        )

    def _for(self, artefact: Path) -> Launcher:
        return self.directory if artefact.is_dir() else self.file


def _configured(server: Launcher, settings: ServingSettings) -> Launcher:
    match server:
        case LlamaCppLauncher():
            context_tokens = settings.context_tokens or server.context_tokens
            return replace(server, context_tokens=context_tokens, slots=settings.slots, threads=settings.threads)
        case VLLMLauncher():
            return replace(server, context_tokens=settings.context_tokens, slots=settings.slots)
        case _:
            return server


def _listening_at(server: Launcher, port: int | None, slots: int | None) -> Launcher:
    match server:
        case LlamaCppLauncher() | VLLMLauncher():
            return replace(server, port=port, slots=slots or server.slots)
        case _:
            return server
