"""`milton results`: what a benchmark run came to. `milton decide`: the decision again, from its pinned evidence.

What belongs here: the two verbs' arguments and what they print. What does not: deciding and the card, which are
`milton_assets.selection`'s.
"""

from __future__ import annotations

from typing import Annotated

import typer

from milton_assets.cli.common import JsonOption, answer, say_no


def results(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The run, benchmark_YYYYMMDD_HHMMSS; by default the latest.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a run: candidates, metrics with statuses and intervals, gates, ranking, verdict.

    Exits 0 when a model was promoted, 1 when none was.

    Example: milton results benchmark_20260111_142500
    """
    from milton_assets.selection.decision import Verdict
    from milton_assets.selection.outcome import print_outcome
    from milton_assets.selection.summary import read_summary
    from milton_assets.vocabulary.state import StateDir

    runs = StateDir.from_environment().runs
    summary = read_summary(runs, run)
    answer(
        summary.model_dump(mode="json"),
        as_json=as_json,
        text=lambda console: print_outcome(summary, runs, console),
    )
    if summary.decision.verdict is not Verdict.PROMOTE:
        raise say_no(f"{summary.run_id}: nothing was promoted ({summary.decision.verdict})")


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(results)
