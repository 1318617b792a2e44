"""`milton metrics`: the latest campaigns and the fleet for Prometheus.

What belongs here: the verb, and where the page goes. What does not: the figures (`milton_assets.usecases.figures`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from milton_assets.cli.common import current_settings
from milton_assets.vocabulary.files import write_atomic


def register(app: typer.Typer) -> None:
    """Add `metrics`."""
    app.command()(metrics)


def metrics(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", dir_okay=False, help="Write it there, whole or not at all; else print it."
        ),
    ] = None,
) -> None:
    """Print the figures of the latest campaigns, of every target and of every rollout, in Prometheus' text format.

    A timer that writes it where node_exporter's textfile collector looks is all that a controller needs; what users get
    is at each device's own `/metrics`, under the same names. No device is asked.

    Example: milton metrics --output /var/lib/prometheus/node-exporter/milton.prom
    """
    from milton_assets.usecases.figures import figures_page
    from milton_assets.usecases.reporting import sources_of

    page = figures_page(sources_of(current_settings()))
    if output is None:
        typer.echo(page, nl=False)
    else:
        write_atomic(output.absolute(), page)
