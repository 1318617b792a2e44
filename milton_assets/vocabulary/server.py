"""A model server as the rest of the project sees it: an endpoint, and something that serves a file.

What belongs here: `Endpoint`, `RunningServer`, `ServingSettings`, and what serves (`Launcher`, `Attaches`). What does
not: processes and HTTP, which are in `resources.servers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from milton_assets.vocabulary.address import server_root
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.forcing import TeacherForcing
from milton_assets.vocabulary.secrets import check_api_key

CountTokens = Callable[[Sequence[str]], list[int]]
"""How many tokens each text has by the served model's own tokenizer. Raises `ModelCallFailed`."""
COUNTED_BY_THE_SERVER = "the served model's tokenizer, over the text that came"


@dataclass(frozen=True)
class Endpoint:
    """Where an OpenAI-compatible server answers. `base_url` has no trailing slash and no `/v1`.

    `slots` is how many requests the server works on at once; `model` the name it serves the model under; `ca_file`
    holds the certificates to trust beside the system's, for a server with one of its own making. `count_tokens` is None
    where nothing offers the model's tokenizer, and `counted_by` says whose word it is; `forcing` is None where the
    server does not tell what its model expects.
    """

    base_url: str
    model: str
    slots: int = 1
    api_key: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    count_tokens: CountTokens | None = field(default=None, repr=False, compare=False)
    counted_by: str = field(default=COUNTED_BY_THE_SERVER, repr=False, compare=False)
    forcing: TeacherForcing | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", server_root(self.base_url))
        if self.api_key is not None:
            check_api_key(self.api_key, f"the endpoint {self.base_url}")
        if self.slots < 1:
            raise BadInput(f"the endpoint has {self.slots} slots", expected="at least 1")

    @property
    def v1(self) -> str:
        """The OpenAI-compatible root, `…/v1`."""
        return f"{self.base_url}/v1"


@dataclass(frozen=True)
class RunningServer:
    """A server that answers, and what is known of it.

    `artefact_there` is the artefact's path as the server sees it, where that is another than ours.
    """

    endpoint: Endpoint
    fingerprint: ServerFingerprint
    artefact_there: Path | None = None


class ServingSettings(BaseModel):
    """What a server is told when it serves a model. `context_tokens` is each slot's; None leaves it to the server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    context_tokens: int | None = Field(default=None, ge=1)
    slots: int = Field(default=1, ge=1)
    threads: int | None = Field(default=None, ge=1)


class Launcher(Protocol):
    """Anything that can serve an artefact for the length of a `with` block and stop it whatever happens."""

    def serve(self, artefact: Path, model: str) -> AbstractContextManager[RunningServer]:
        """Serve `artefact` under the name `model`. Raises `ServerFailed` with the server's last lines."""
        ...


@runtime_checkable
class Attaches(Launcher, Protocol):
    """A launcher that starts nothing: `serve` finds a server running, and reads no file of the artefact."""

    def attach(self, model: str) -> AbstractContextManager[RunningServer]:
        """Whatever is served under the name `model`, with no artefact to compare it with. Raises `ServerFailed`."""
        ...

    def counting_here(self, served: RunningServer, artefact: Path) -> RunningServer:
        """The same server, whose tokens are counted from `artefact` where it lies here and has a tokenizer."""
        ...
