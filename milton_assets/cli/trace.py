"""`milton trace`: why is this file on that device? One unbroken answer, or the link that is broken.

What belongs here: the verb. What does not: following the chain (`milton_assets.trace`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from milton_assets.cli.common import JsonOption, answer, say_no
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.evidence import EvidenceManifest
from milton_assets.vocabulary.state import StateDir

if TYPE_CHECKING:
    from rich.console import Console

    from milton_assets.edge.deployment import Deployment
    from milton_assets.trace import Chain


def register(app: typer.Typer) -> None:
    """Add `trace`."""
    app.command()(trace)


def trace(
    deployment_id: Annotated[str, typer.Argument(help="A deployment's id, as `milton history` shows it.")],
    as_json: JsonOption = False,
) -> None:
    """Follow a deployment to the weights, verifying every link: bundle, decision, evidence, registry entry, weights.

    Exits 0 when the chain holds, 1 when a link is broken.

    Example: milton trace deploy_20260111_142500_123_a1b2c3
    """
    from milton_assets.trace import trace as follow

    state = StateDir.from_environment()
    chain = follow(_find(state, deployment_id), _evidence_check(state))
    answer(chain.to_json(), as_json=as_json, text=lambda console: _draw(chain, console))
    if not chain.holds:
        raise say_no("the chain is broken")


def _find(state: StateDir, deployment_id: str) -> Deployment:
    from milton_assets.edge.deployment import history
    from resources.edge_targets import EdgeTargets

    targets = EdgeTargets(state).all()
    found = {done.id: done for target in targets for done in history(target)}
    if deployment_id not in found:
        raise BadInput(
            f"there is no deployment {deployment_id!r:.100}",
            expected=f"one of {sorted(found)[-5:]}" if found else "a deployment; nothing was ever deployed here",
            remedy="`milton history` lists them",
        )
    return found[deployment_id]


def _evidence_check(state: StateDir) -> Callable[[EvidenceManifest], None]:
    def check(evidence: EvidenceManifest) -> None:
        from dagster import DagsterInstance

        from resources.evidence_log import check_manifest
        from resources.evidence_store import EvidenceStore, evidence_root_from

        home = os.environ.get("DAGSTER_HOME") or str(state.dagster)
        with DagsterInstance.from_config(home) as instance:
            check_manifest(instance, EvidenceStore(evidence_root_from(os.environ, state)), evidence)

    return check


def _draw(chain: Chain, console: Console) -> None:
    for link in chain.links:
        mark = "✓" if link.holds else "✗"
        console.print(f"{mark} {link.what:<15} {link.which}", style=None if link.holds else "red", markup=False)
        console.print(f"  {'':<15} {link.detail}", markup=False, soft_wrap=True)
        if link.digest:
            console.print(f"  {'':<15} sha256 {link.digest}", markup=False, soft_wrap=True)
