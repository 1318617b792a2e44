"""`milton autobench`: the whole road, or a part of it.

What belongs here: the verb's options, and launching Dagster's job with them in this process. What does not: the road
itself (`milton_assets.conductor`); `dagster job execute -j autobench` is the same job without options.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from milton_assets.cli.common import EXIT_NO, current_settings
from milton_assets.cli.environment import exports_for, install_dagster_yaml
from milton_assets.settings import hand_to_process

EXIT_INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add `autobench`."""
    app.command()(autobench)


def autobench(
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Measure this version; may be given again. By default all candidates."),
    ] = None,
    tier: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Measure by this tier; may be given again. By default all tiers."),
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Start a new campaign instead of going on with an interrupted one.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for another campaign that runs here, instead of refusing.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be measured; measure, decide and deploy nothing.")
    ] = False,
) -> None:
    """Measure every candidate, decide, bundle and deploy; go on with a campaign that was interrupted.

    The decision is over all candidates: what is not measured now counts as it was measured last.

    Example: milton autobench --only v1.20260111.1425 --tier reasoning
    """
    told = {"only": only or [], "tiers": tier or [], "resume": not new, "wait": wait, "dry_run": dry_run}
    from milton_assets.usecases.settings_check import check_settings  # it loads every tier

    settings = current_settings()
    check_settings(settings)
    exports = exports_for(settings)
    hand_to_process(exports)
    install_dagster_yaml(Path(exports["DAGSTER_HOME"]))
    # Dagster takes SIGTERM for Ctrl-C while a job runs; before and after it, so do we.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))

    from dagster import DagsterInstance, DagsterRunStatus, execute_job

    from resources.console_logger import logged_at
    from resources.dagster_private import job_from_module

    job = job_from_module(exports["DAGSTER_MODULE_NAME"], "autobench")
    config = {"ops": {"conduct": {"config": told}}, **logged_at(settings.log_level)}
    with DagsterInstance.get() as instance:
        with execute_job(job, instance, run_config=config, raise_on_error=False) as result:
            succeeded, run_id = result.success, result.run_id
        run = instance.get_run_by_id(run_id)
    if not succeeded:
        # What went wrong was said when it did.
        cancelled = run is not None and run.status is DagsterRunStatus.CANCELED
        sys.exit(EXIT_INTERRUPTED if cancelled else EXIT_NO)
