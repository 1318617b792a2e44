"""A model server for whatever an edge release holds: llama.cpp for a GGUF file, vLLM for a Hugging Face directory.

What belongs here: the choice between the two. What does not: the servers (`resources.servers`) and what is asked of
them (`milton_assets.edge.deployment.loadtest`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from milton_assets.vocabulary.server import Served, Serves
from resources.servers.llama_cpp import LlamaCppLauncher
from resources.servers.vllm import VLLMLauncher


@dataclass(frozen=True)
class EdgeServer:
    """Serves a release's model on a port of its own; implements `milton_assets.vocabulary.server.Serves`."""

    file: Serves = field(default_factory=lambda: LlamaCppLauncher(context_tokens=2048))
    directory: Serves = field(default_factory=VLLMLauncher)

    def serve(self, artefact: Path, model: str) -> AbstractContextManager[Served]:
        """Serve `artefact` under the name `model`. Raises `ServerFailed` with the server's last lines."""
        return (self.directory if artefact.is_dir() else self.file).serve(artefact, model)
