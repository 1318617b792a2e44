"""Dagster resources that serve a registered artefact for the length of a `with` block.

What belongs here: configuration that a person may edit in the UI, and its translation into a launcher. What does not:
starting, attaching and checking, which are `resources.servers`'s.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from dagster import ConfigurableResource, InitResourceContext
from pydantic import Field, PrivateAttr

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import Artefact, ArtefactKind
from milton_assets.vocabulary.server import Launcher, RunningServer
from resources.api_keys import key_from
from resources.servers.attached import AttachedServer
from resources.servers.identity import verified_serving
from resources.servers.kept import KeptServer
from resources.servers.llama_cpp import LlamaCppLauncher
from resources.servers.vllm import VLLMLauncher


class ModelServerResource(ConfigurableResource, ABC):  # type: ignore[type-arg]
    """What every model server has in common: which kind of artefact it serves, and serving one that is checked."""

    @property
    @abstractmethod
    def artefact_kind(self) -> ArtefactKind:
        """Which of a model's artefacts this server serves."""

    @abstractmethod
    def launcher(self) -> Launcher:
        """The launcher or the attached server that this configuration describes. Raises `BadInput`."""

    _held: KeptServer | None = PrivateAttr(default=None)

    @abstractmethod
    def describe(self) -> str:
        """The server in a few words, for people."""

    @contextmanager
    def yield_for_execution(self, context: InitResourceContext) -> Iterator[Self]:
        """Within a Dagster run, keep the first server that is started until the run ends, however it ends."""
        with KeptServer() as held:
            self._held = held
            try:
                yield self
            finally:
                self._held = None

    @contextmanager
    def serve(self, artefact: Artefact, model: str) -> Iterator[RunningServer]:
        """Serve the artefact under the name `model` and show that it is the registered one.

        Within a Dagster run the server outlives the block and serves the run's next tier; outside, it ends with it.
        Either way the artefact's files must be the same at the block's end as at its beginning.

        Raises `BadInput` when the artefact is of a kind that this server does not serve, `ServerFailed` when the server
        fails or its digest, path or name is not the registered one.
        """
        if artefact.kind is not self.artefact_kind:
            raise BadInput(
                f"{model}: {type(self).__name__} is to serve a {artefact.kind} artefact",
                expected=f"a {self.artefact_kind} artefact",
                remedy="choose the server that serves it",
            )
        what = (self.launcher(), Path(artefact.path), model, artefact.sha256)
        with verified_serving(*what) if self._held is None else self._held.serve(*what) as served:
            yield served


class LlamaCppResource(ModelServerResource):
    """Serves GGUF files with llama.cpp, one child process a candidate."""

    slots: int = Field(default=1, ge=1, description="How many requests run at once.")
    context_tokens: int = Field(default=4096, ge=1, description="Each slot's context.")
    threads: int | None = Field(default=None, ge=1, description="Threads; by default the usable physical cores.")
    start_deadline_s: float = Field(default=120.0, gt=0, description="How long the server may take to be ready.")
    prefer_binary: bool = Field(default=False, description="Run `llama-server` from PATH when it is there.")
    extra_args: list[str] = Field(default_factory=list, description="Further arguments of the server program.")
    log_dir: str | None = Field(default=None, description="Where the server's logs stay; nowhere by default.")

    @property
    def artefact_kind(self) -> ArtefactKind:
        """GGUF."""
        return ArtefactKind.GGUF

    def describe(self) -> str:
        """llama.cpp and its slots."""
        return f"llama.cpp, {self.slots} slot{'s' if self.slots > 1 else ''}, started per candidate"

    def launcher(self) -> LlamaCppLauncher:
        """The launcher."""
        return LlamaCppLauncher(
            context_tokens=self.context_tokens,
            slots=self.slots,
            threads=self.threads,
            prefer_binary=self.prefer_binary,
            extra=tuple(self.extra_args),
            start_deadline_s=self.start_deadline_s,
            log_dir=Path(self.log_dir) if self.log_dir else None,
        )


class VLLMResource(ModelServerResource):
    """Serves models with vLLM: attaches to the server at `base_url`, or launches one per candidate and stops it.

    Attached, it takes any OpenAI-compatible server, which must list the model under its version's name and, where it
    tells a path, have loaded the registered artefact. Launched, it serves Hugging Face directories.
    """

    base_url: str | None = Field(default=None, description="A running server's URL; launch one when it is absent.")
    api_key_env: str | None = Field(default=None, description="The environment variable that holds its API key.")
    attached_kind: str = Field(
        pattern=f"^({ArtefactKind.GGUF}|{ArtefactKind.HF_DISTILLED})$",
        default=ArtefactKind.HF_DISTILLED.value,
        description="What the attached server has loaded: gguf or hf-distilled.",
    )
    path_there: str | None = Field(default=None, description="The artefact's path as the attached server sees it.")
    interpreter: str | None = Field(default=None, description="A Python that has vLLM; else `vllm` from PATH.")
    slots: int = Field(default=16, ge=1, description="How many sequences run at once.")
    context_tokens: int | None = Field(default=None, ge=1, description="The longest context; by default the model's.")
    extra_args: list[str] = Field(default_factory=list, description="Further arguments of vLLM's.")
    env: dict[str, str] = Field(default_factory=dict, description="Added to the launched server's environment.")
    start_deadline_s: float = Field(default=600.0, gt=0, description="How long the server may take to be ready.")
    log_dir: str | None = Field(default=None, description="Where the server's logs stay; nowhere by default.")

    @property
    def artefact_kind(self) -> ArtefactKind:
        """A Hugging Face directory when it is launched, `attached_kind` when it is attached to."""
        return ArtefactKind(self.attached_kind) if self.base_url else ArtefactKind.HF_DISTILLED

    def describe(self) -> str:
        """The address it attaches to, or that it launches vLLM."""
        return f"the server at {self.base_url}" if self.base_url else "vLLM, started per candidate"

    def launcher(self) -> Launcher:
        """The attached server or the launcher."""
        if self.base_url:
            return AttachedServer(
                self.base_url,
                api_key=key_from(self.api_key_env),
                slots=self.slots,
                path_there=Path(self.path_there) if self.path_there else None,
            )
        return VLLMLauncher(
            interpreter=Path(self.interpreter) if self.interpreter else None,
            context_tokens=self.context_tokens,
            slots=self.slots,
            extra=tuple(self.extra_args),
            env=dict(self.env),
            start_deadline_s=self.start_deadline_s,
            log_dir=Path(self.log_dir) if self.log_dir else None,
        )
