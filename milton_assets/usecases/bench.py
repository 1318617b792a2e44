"""What a machine measures candidates with: the server that it serves releases with, watched and asked from here.

What belongs here: putting the edge's model server, its client, the machine's watch and its fingerprint together, for
this machine's targets and for a device's agent alike. What does not: any of them, and anything heavy: it runs on
devices.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from milton_assets.edge.manifest import HealthContract
from milton_assets.fleet.measuring import ContractRequest, Expectations, ExpectationsRequest, QuestionsRequest
from milton_assets.settings.model import LLAMA_CPP
from milton_assets.usecases.probe import measured_contract
from milton_assets.vocabulary.artefact_files import artefact_files
from milton_assets.vocabulary.chat import Message, ModelCallFailed, Sampling
from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.fingerprint import Fingerprint
from milton_assets.vocabulary.server import RunningServer
from milton_assets.vocabulary.tuning import Axes, Chosen
from resources.edge_server import EdgeServer
from resources.hardware import fingerprint
from resources.machine_watch import MachineWatch, nvidia_gpus
from resources.servers.client import OpenAIChatModel
from resources.servers.identity import check_digest, verified_serving
from resources.servers.llama_cpp import LlamaCppLauncher
from resources.servers.memory import why_no_room
from resources.servers.repeatable import repeatable
from resources.servers.tunable import axes_of, settings_changed, with_choices


def greedy_answers(served: RunningServer, request: QuestionsRequest) -> tuple[str, ...]:
    """A served model's greedy answers, one question after the other. Raises `ModelCallFailed`."""
    with OpenAIChatModel(served.endpoint, asking=repeatable(served.fingerprint)) as chat:
        sampling = Sampling(max_tokens=request.max_tokens)
        return tuple(chat.complete([Message("user", text)], sampling).text for text in request.questions)


def expectations(served: RunningServer, request: ExpectationsRequest) -> Expectations:
    """What a served model expects in given texts, or why that is not known."""
    if (forcing := served.endpoint.forcing) is None:
        return Expectations(because=f"the server ({served.fingerprint.name}) does not tell what its model expects")
    asked = {"first": request.first, "places": request.places, "top": request.top}
    try:
        return Expectations(texts=tuple(forcing.forced(text, **asked) for text in request.texts))
    except ModelCallFailed as failed:
        return Expectations(because=failed.problem)


@dataclass(frozen=True)
class EdgeBench:
    """Measures with `server`; implements `fleet.measuring.Bench`."""

    server: EdgeServer

    def serve(self, weights: Path, model: str, sha256: str) -> AbstractContextManager[RunningServer]:
        """See `Bench`."""
        return verified_serving(self.server, weights, model, sha256)

    def fingerprint(self, served: RunningServer) -> Fingerprint:
        """See `Bench`."""
        return fingerprint(served)

    def watch(self, served: RunningServer) -> MachineWatch:
        """See `Bench`. The server is ours, so its processes are among this one's."""
        return MachineWatch(gpus=nvidia_gpus)

    def answers(self, served: RunningServer, request: QuestionsRequest) -> tuple[str, ...]:
        """See `Bench`."""
        return greedy_answers(served, request)

    def expectations(self, served: RunningServer, request: ExpectationsRequest) -> Expectations:
        """See `Bench`."""
        return expectations(served, request)

    def axes(self, draft: Path | None) -> Axes:
        """See `Bench`."""
        return axes_of(self._tunable(), draft=draft)

    def settings_changed(self, chosen: Chosen) -> dict[str, Any]:
        """See `Bench`."""
        return settings_changed(self._tunable(), chosen)

    @contextmanager
    def serve_both(
        self, weights: Path, model: str, sha256: str, of: Chosen, against: Chosen
    ) -> Iterator[tuple[RunningServer, RunningServer]]:
        """See `Bench`. A draft model's own room is not reckoned: its server says that it does not fit."""
        launcher = self._tunable()
        if not weights.is_file():
            raise BadInput(f"{model} is served from {weights}", expected="a GGUF that llama.cpp serves")
        if why := why_no_room(2 * sum(path.stat().st_size for path in artefact_files(weights).values())):
            raise ServerFailed(f"two servers of {model} do not fit: the second {why}", expected="room for two in turn")
        check_digest(weights, sha256, "before it was tuned for")
        with (
            with_choices(launcher, against).serve(weights, model) as standing,
            with_choices(launcher, of).serve(weights, model) as trial,
        ):
            yield trial, standing
        check_digest(weights, sha256, "after it was tuned for")

    def _tunable(self) -> LlamaCppLauncher:
        launcher = self.server.file
        if self.server.program != LLAMA_CPP or not isinstance(launcher, LlamaCppLauncher):
            raise BadInput(
                f"models are served by {self.server.program} here",
                expected="llama.cpp: its settings are what is searched",
            )
        return launcher

    def contract(self, weights: Path, request: ContractRequest) -> HealthContract:
        """See `Bench`."""
        return measured_contract(self.server, weights, request)
