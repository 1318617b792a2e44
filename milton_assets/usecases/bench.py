"""What a machine measures candidates with: the server that it serves releases with, watched and asked from here.

What belongs here: putting the edge's model server, its client, the machine's watch and its fingerprint together, for
this machine's targets and for a device's agent alike. What does not: any of them, and anything heavy: it runs on
devices.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from milton_assets.edge.manifest import HealthContract
from milton_assets.fleet.measuring import ContractRequest, QuestionsRequest
from milton_assets.usecases.probe import measured_contract
from milton_assets.vocabulary.chat import Message, Sampling
from milton_assets.vocabulary.fingerprint import Fingerprint
from milton_assets.vocabulary.server import RunningServer
from resources.edge_server import EdgeServer
from resources.hardware import fingerprint
from resources.machine_watch import MachineWatch, nvidia_gpus
from resources.servers.client import OpenAIChatModel
from resources.servers.identity import verified_serving
from resources.servers.repeatable import repeatable


def greedy_answers(served: RunningServer, request: QuestionsRequest) -> tuple[str, ...]:
    """A served model's greedy answers, one question after the other. Raises `ModelCallFailed`."""
    with OpenAIChatModel(served.endpoint, asking=repeatable(served.fingerprint)) as chat:
        sampling = Sampling(max_tokens=request.max_tokens)
        return tuple(chat.complete([Message("user", text)], sampling).text for text in request.questions)


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

    def contract(self, weights: Path, request: ContractRequest) -> HealthContract:
        """See `Bench`."""
        return measured_contract(
            self.server, weights, request.model, least_speed=request.least_speed, same_answers=request.same_answers
        )
