"""The targets of a state folder, for tests that look at them.

What belongs here: opening them, and letting one serve a release before anything is shown. What does not: assertions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from milton_assets.fleet.target import DeployRequest, Target
from milton_assets.fleet.targets import Targets
from milton_assets.usecases.targets import open_targets
from milton_assets.vocabulary.state import StateDir
from resources.edge_server import EdgeServer


def targets_of(state: StateDir, elsewhere: Mapping[str, str] | None = None) -> Targets:
    """The targets of `state`, as the command line sees them."""
    return open_targets(state, elsewhere or {}, server=EdgeServer)


def let_serve(target: Target, bundle: Path, *, actor: str = "ada") -> None:
    """Deploy `bundle` there without a model server, in this process: for tests that show what comes after."""
    target.deploy(bundle, DeployRequest(actor=actor, load_test=False, health_rounds=0))
