"""Measuring a candidate where it would serve: what is asked of a target that can, and what it gives.

    with kitchen.measuring(Weights(path, sha256), "v1") as there:
        result = measure_inference(there.served.endpoint, plan, open_client=there.open_client)

What belongs here: the nouns and protocols of that, and the target on this machine. What does not: how it is asked of a
device (`measuring_elsewhere`), what a device serves with (`milton_assets.usecases.bench`), and any figure.

A device serves the candidate with its own server under its own settings, as it would in service, and makes the timed
requests itself over its own loopback. What comes back is rows, counts and what its kernel said, never code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, runtime_checkable

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt

from milton_assets.edge.manifest import HealthContract
from milton_assets.edge.relative_path import check_path
from milton_assets.vocabulary.artefact_files import MAX_DIRECTORY_FILES, artefact_files
from milton_assets.vocabulary.chat import CallErrorKind
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.fingerprint import Fingerprint
from milton_assets.vocabulary.forcing import Forced
from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.machine import Seen, Watches
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.server import RunningServer
from milton_assets.vocabulary.tuning import Axes, Chosen

if TYPE_CHECKING:
    from milton_assets.tiers.inference.orders import OpenClient

MEASURING_LOCK = "measuring.lock"
"""In a state folder: two measurements at once would measure each other."""
WAIT_S = 3600.0
MAX_ANSWER_TOKENS = 512
MAX_TEXTS, MAX_TEXT_CHARACTERS = 16, 20_000


@dataclass(frozen=True)
class Weights:
    """An artefact on this machine, by its path and its digest as the registry has it."""

    path: Path
    sha256: str
    files: Mapping[str, Path] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", artefact_files(self.path))


class WeightsOffer(BaseModel):
    """An artefact that is to be measured: the bytes of its files by name, and which of them is served. None: their
    folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    artefact: Sha256
    files: dict[Annotated[str, AfterValidator(check_path)], NonNegativeInt] = Field(
        min_length=1, max_length=MAX_DIRECTORY_FILES
    )
    main: Annotated[str, AfterValidator(check_path)] | None


class WeightsThere(BaseModel):
    """How many bytes of each file came, and whether all are there and are what the digest says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    have: dict[str, NonNegativeInt]
    whole: bool


class MeasureRequest(BaseModel):
    """Serve the artefact under the name `model` until it is measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    artefact: Sha256
    model: Slug


class ContractRequest(MeasureRequest):
    """Measure a health contract of it; see `measure_contract`."""

    least_speed: float = Field(gt=0, le=1)
    same_answers: bool = True


class QuestionsRequest(BaseModel):
    """Questions that are answered greedily, one after the other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    questions: tuple[str, ...] = Field(min_length=1, max_length=100)
    max_tokens: int = Field(ge=1, le=MAX_ANSWER_TOKENS)


class ExpectationsRequest(BaseModel):
    """Texts that are put into the model's mouth: of each, what it expects at `places` tokens from the one numbered
    `first` on, with the `top` likeliest each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    texts: tuple[Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS)], ...] = Field(
        min_length=1, max_length=MAX_TEXTS
    )
    first: int = Field(ge=1, le=4096)
    places: int = Field(ge=1, le=64)
    top: int = Field(ge=2, le=100)


class Expectations(BaseModel):
    """What the model expected in every text, or why it was not told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    texts: tuple[Forced, ...] = Field(default=(), max_length=MAX_TEXTS)
    because: str | None = None


class Answers(BaseModel):
    """What the model answered, or why a call to it failed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: tuple[str, ...] = ()
    failed: CallErrorKind | None = None
    because: str = ""


class ServedThere(BaseModel):
    """The server that a device started: where it answers on the device, its slots and its environment.

    `counts_tokens`: it offers its tokenizer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str = Field(max_length=200)
    slots: int = Field(ge=1)
    counts_tokens: bool
    fingerprint: Fingerprint


class Measured(Watches, Protocol):
    """A candidate that is served where it would serve, for the length of a block."""

    @property
    def served(self) -> RunningServer:
        """The server; its endpoint is on the machine that it runs on."""
        ...

    @property
    def fingerprint(self) -> Fingerprint:
        """That machine and the server."""
        ...

    @property
    def open_client(self) -> OpenClient:
        """Opens what makes timed requests beside the server."""
        ...

    def answers(self, request: QuestionsRequest) -> tuple[str, ...]:
        """Its greedy answers. Raises `ModelCallFailed`."""
        ...

    def expectations(self, request: ExpectationsRequest) -> Expectations:
        """What it expects in given texts. A server that does not tell, or a call that fails, is said in the answer."""
        ...


@runtime_checkable
class Measures(Protocol):
    """A target on which candidates can be measured."""

    def measuring(
        self, weights: Weights, model: str, *, on_progress: OnProgress = silent
    ) -> AbstractContextManager[Measured]:
        """Serve the weights there as `model`, alone, for the length of the block. Raises `ServerFailed`."""
        ...

    def contract(
        self, weights: Weights, request: ContractRequest, *, on_progress: OnProgress = silent
    ) -> HealthContract:
        """The health contract of the weights, measured there. Raises `ProbeFailed`."""
        ...


class Bench(Protocol):
    """What a machine measures candidates with: its own model server, under the settings that it serves with."""

    def serve(self, weights: Path, model: str, sha256: str) -> AbstractContextManager[RunningServer]:
        """Serve the weights, which are shown to be those of that digest. Raises `ServerFailed`."""
        ...

    def fingerprint(self, served: RunningServer) -> Fingerprint:
        """This machine and that server."""
        ...

    def watch(self, served: RunningServer) -> Watches:
        """What tells whether something else wanted this machine."""
        ...

    def answers(self, served: RunningServer, request: QuestionsRequest) -> tuple[str, ...]:
        """The model's greedy answers. Raises `ModelCallFailed`."""
        ...

    def expectations(self, served: RunningServer, request: ExpectationsRequest) -> Expectations:
        """See `Measured`."""
        ...

    def contract(self, weights: Path, request: ContractRequest) -> HealthContract:
        """The health contract of the weights. Raises `ProbeFailed`."""
        ...

    def axes(self, draft: Path | None) -> Axes:
        """See `fleet.trying.TriesSettings`."""
        ...

    def settings_changed(self, chosen: Chosen) -> dict[str, Any]:
        """See `fleet.trying.TriesSettings`."""
        ...

    def serve_both(
        self, weights: Path, model: str, sha256: str, of: Chosen, against: Chosen
    ) -> AbstractContextManager[tuple[RunningServer, RunningServer]]:
        """Serve the weights, which are shown to be those of that digest, with the settings `of` and with those
        `against`. Raises `ServerFailed`, also where there is no room for two."""
        ...


@dataclass(frozen=True)
class MeasuredHere:
    """A candidate that this machine serves; implements `Measured`."""

    bench: Bench
    served: RunningServer
    open_client: OpenClient

    @property
    def fingerprint(self) -> Fingerprint:
        """See `Measured`."""
        return self.bench.fingerprint(self.served)

    def watching(self) -> AbstractContextManager[Seen]:
        """See `Watches`."""
        return self.bench.watch(self.served).watching()

    def answers(self, request: QuestionsRequest) -> tuple[str, ...]:
        """See `Measured`."""
        return self.bench.answers(self.served, request)

    def expectations(self, request: ExpectationsRequest) -> Expectations:
        """See `Measured`."""
        return self.bench.expectations(self.served, request)


@contextmanager
def measured_here(bench: Bench, state: Path, weights: Path, model: str, sha256: str) -> Iterator[MeasuredHere]:
    """Serve the weights on this machine, whose state lies in `state`, while nobody else measures here."""
    from milton_assets.tiers.inference.client import measuring_here

    with (
        locked(state / MEASURING_LOCK, timeout_s=WAIT_S),
        bench.serve(weights, model, sha256) as served,
        measuring_here() as open_client,
    ):
        yield MeasuredHere(bench, served, open_client)
