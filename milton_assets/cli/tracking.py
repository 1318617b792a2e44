"""`milton mlflow`: tell a run to the MLflow server that is named, now.

What belongs here: the verb. What does not: what is told (`milton_assets.usecases.tracking`), and campaigns, which
tell it themselves.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from milton_assets.cli.common import JsonOption, answer, current_settings
from milton_assets.vocabulary.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add `mlflow`."""
    app.command()(mlflow)


def mlflow(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The run, benchmark_YYYYMMDD_HHMMSS; by default the latest.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell a run to the MLflow server of the setting `mlflow.url`: a run a model, figures with intervals, the report.

    A campaign does so by itself; this is for what was decided before the setting was made, or while the server was
    away. What was told before is brought up to date.

    Example: milton mlflow benchmark_20260111_142500
    """
    from milton_assets.selection.summary import read_summary
    from milton_assets.usecases.reporting import sources_of
    from milton_assets.usecases.tracking import MlflowTracking, tell_mlflow

    settings = current_settings()
    if settings.mlflow is None:
        raise BadInput(
            "no MLflow server is named",
            expected="the setting mlflow.url (MILTON_MLFLOW_URL)",
            remedy="export MILTON_MLFLOW_URL=http://HOST:5000",
        )
    sources = sources_of(settings)
    run_id = run or read_summary(sources.store.runs).run_id
    told = tell_mlflow(MlflowTracking.from_settings(settings.mlflow), sources, run_id)

    def show(console: Console) -> None:
        console.print(f"{told.run_id} and its {told.models} models: {told.address}", markup=False, soft_wrap=True)
        if told.left_out:
            console.print(f"without the report: {told.left_out}", markup=False, soft_wrap=True)

    answer(asdict(told), as_json=as_json, text=show)
