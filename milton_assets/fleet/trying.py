"""Trying settings where a model would serve: two servers of the same weights, each with settings of its own, in turn.

    axes = kitchen.axes()
    with kitchen.trying(Pairing(weights, "v1", of=axes.named(["threads 4"]), against=())) as (mine, standing):
        pair = measure_interleaved([mine.served.endpoint, standing.served.endpoint], plan, …)

What belongs here: the nouns and protocol of that, and doing it on this machine. What does not: which settings a machine
has to choose from (`resources.servers.tunable`), the search (`milton_assets.tiers.inference.tuning`), and asking a
device (`measuring_elsewhere`).

A device starts its server with nothing but choices that it offered itself: no option or path of a controller's reaches
its command line, but for a draft model that lies on the device already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from milton_assets.fleet.measuring import (
    MEASURING_LOCK,
    WAIT_S,
    Bench,
    Measured,
    MeasuredHere,
    MeasureRequest,
    ServedThere,
    Weights,
)
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.tuning import MAX_AXES, Axes, Chosen

_Path = Annotated[str, Field(min_length=1, max_length=4096)]
_Labels = Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=MAX_AXES)]


class AxesRequest(BaseModel):
    """What may be chosen there? `draft` is a draft model's absolute path on the device."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draft: _Path | None = None


class ChangesRequest(AxesRequest):
    """What is to be written into its settings for the choices of those labels?"""

    chosen: _Labels


class TryRequest(MeasureRequest):
    """Serve the artefact twice: with the choices labelled `of`, and with those labelled `against`."""

    of: _Labels
    against: _Labels
    draft: _Path | None = None


class TriedThere(BaseModel):
    """The two servers that a device started."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trial: ServedThere
    standing: ServedThere


@dataclass(frozen=True)
class Pairing:
    """What is tried: the weights, served as `model` with the choices `of` beside those `against`; `draft` is a draft
    model that lies where they are served."""

    weights: Weights
    model: str
    of: Chosen
    against: Chosen
    draft: Path | None = None


@runtime_checkable
class TriesSettings(Protocol):
    """A target, or this machine, on which settings can be tried."""

    def axes(self, draft: Path | None = None) -> Axes:
        """What may be chosen there; `draft` lies there. Raises `BadInput` where another server than llama.cpp serves,
        and for a draft that is no model; `ServerFailed` for a program that does not tell its options."""
        ...

    def settings_changed(self, chosen: Chosen, draft: Path | None = None) -> Mapping[str, Any]:
        """The settings of the server that the choices change, by name, with the values that they then have."""
        ...

    def trying(
        self, pairing: Pairing, *, on_progress: OnProgress = silent
    ) -> AbstractContextManager[tuple[Measured, Measured]]:
        """Serve the pairing's weights with both its settings, each started anew, alone, for the length of the block:
        what is tried, and what it is tried against. Raises `ServerFailed`, also where there is no room for two."""
        ...


@dataclass(frozen=True)
class TryingHere:
    """This machine, whose state lies in `state`; implements `TriesSettings`."""

    bench: Bench
    state: Path

    def axes(self, draft: Path | None = None) -> Axes:
        """See `TriesSettings`."""
        return self.bench.axes(draft)

    def settings_changed(self, chosen: Chosen, draft: Path | None = None) -> Mapping[str, Any]:
        """See `TriesSettings`."""
        return self.bench.settings_changed(chosen)

    @contextmanager
    def trying(
        self, pairing: Pairing, *, on_progress: OnProgress = silent
    ) -> Iterator[tuple[MeasuredHere, MeasuredHere]]:
        """See `TriesSettings`."""
        weights, of, against = pairing.weights, pairing.of, pairing.against
        from milton_assets.tiers.inference.client import measuring_here

        with (
            locked(self.state / MEASURING_LOCK, timeout_s=WAIT_S),
            self.bench.serve_both(weights.path, pairing.model, weights.sha256, of, against) as (mine, standing),
            measuring_here() as open_client,
        ):
            yield MeasuredHere(self.bench, mine, open_client), MeasuredHere(self.bench, standing, open_client)
