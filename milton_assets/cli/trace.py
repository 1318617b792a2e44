"""`milton trace`: why is this file on that device? One unbroken answer, or the link that is broken.

What belongs here: the verb. What does not: following the chain (`milton_assets.usecases.trace`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from milton_assets.cli.common import JsonOption, answer, current_settings, registry_of, say_no
from milton_assets.cli.environment import install_dagster_yaml
from milton_assets.settings import Settings, dagster_home
from milton_assets.vocabulary.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from milton_assets.edge.deployment import Deployment
    from milton_assets.usecases.trace import Chain, Records


def register(app: typer.Typer) -> None:
    """Add `trace`."""
    app.command()(trace)


def trace(
    deployment_id: Annotated[
        str | None,
        typer.Argument(help="A deployment's id, as `milton history` shows it; by default the newest that stands."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Follow a deployment to the weights, verifying every link and naming each file that does not hold.

    The links: deployment, release, bundle, decision, evidence, registry entry, weights; then the field verdicts of
    canaries that the release was in. The release is verified where it lies, on a device by the device. Exits 0 when the
    chain holds, 1 when a link is broken.

    Example: milton trace deploy_20260111_142500_123_a1b2c3
    """
    from milton_assets.usecases.compose import targets_of
    from milton_assets.usecases.known_deployments import known_deployments, newest_deployment
    from milton_assets.usecases.trace import trace as follow

    settings = current_settings()
    targets = targets_of(settings)
    chosen = deployment_id or newest_deployment(targets)
    known = known_deployments(targets, chosen)
    with _records(settings, known) as records:
        chain = follow(known[chosen], targets.named(known[chosen].target), records)
    answer(chain.to_json(), as_json=as_json, text=lambda console: _draw(chain, console))
    if not chain.holds:
        raise say_no("the chain is broken")


@contextmanager
def _records(settings: Settings, known: Mapping[str, Deployment]) -> Iterator[Records]:
    from dagster import DagsterInstance

    from milton_assets.tiers.discovery import installed_tiers
    from milton_assets.usecases.compose import evidence_store_of
    from milton_assets.usecases.trace import Records
    from milton_assets.vocabulary.golden_set import golden_digests, read_all_goldens

    home = Path(dagster_home(settings))
    install_dagster_yaml(home)  # on a machine where no campaign ran, the log is empty and not an error
    with DagsterInstance.from_config(str(home)) as instance:
        store, registry = evidence_store_of(settings), registry_of(settings)
        yield Records(
            settings.state,
            store,
            instance,
            lambda: golden_digests(read_all_goldens(installed_tiers(), settings.goldens)),
            known,
            registry,
        )


def _draw(chain: Chain, console: Console) -> None:
    for link in chain.links:
        mark = "✓" if link.holds else "✗"
        # Never wrapped by us: a digest or a path is to be copied whole.
        named = f"{mark} {link.what:<15} {printable(link.which)}"
        console.print(named, style=None if link.holds else "red", markup=False, soft_wrap=True)
        console.print(f"  {'':<15} {printable(link.detail)}", markup=False, soft_wrap=True)
        if link.digest:
            # Near the margin, so that a terminal of 80 columns does not break it.
            console.print(f"  sha256 {link.digest}", markup=False, soft_wrap=True)
