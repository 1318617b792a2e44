"""The probe that bundling measures a health contract with, and that deploying holds a device to.

What belongs here: putting the edge's model server and its client together, for the graph and the command line alike.
What does not: either of them, and Dagster.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from milton_assets.edge.deployment import ServedLoadTest, measure_contract
from milton_assets.edge.manifest import HealthContract
from resources.edge_server import EdgeServer
from resources.servers.client import OpenAIChatModel

if TYPE_CHECKING:
    from milton_assets.fleet.measuring import ContractRequest


def edge_probe(server: EdgeServer) -> ServedLoadTest:
    """A load test that serves releases with `server`, under the settings that their contract was measured with."""
    return ServedLoadTest(server, OpenAIChatModel)


def measured_contract(server: EdgeServer, weights: Path, request: ContractRequest) -> HealthContract:
    """`measure_contract` with `server`, whose settings the contract records. Raises `ProbeFailed`."""
    return measure_contract(
        edge_probe(server),
        weights,
        request.model,
        least_speed=request.least_speed,
        same_answers=request.same_answers,
        served_with=server.settings(weights),
    )
