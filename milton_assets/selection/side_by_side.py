"""The device classes of one campaign beside each other: who won where, and where each candidate stands.

What belongs here: that table, as rows and on the terminal. What does not: a single decision's card (`card`).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from milton_assets.selection.decision import Decision
from milton_assets.selection.summary import RunSummary
from milton_assets.vocabulary.figure import figure
from milton_assets.vocabulary.keys import class_of

HERE = "this machine"


def side_by_side(summaries: Sequence[RunSummary]) -> tuple[list[str], list[list[str]]]:
    """The classes, and a row a candidate: its version, then its place in each class's decision."""
    decisions = [summary.decision for summary in summaries]
    versions = list(dict.fromkeys(candidate.version for decision in decisions for candidate in decision.candidates))
    classes = [class_of(summary.run_id) or HERE for summary in summaries]
    return classes, [[version, *(_place(decision, version) for decision in decisions)] for version in versions]


def print_side_by_side(summaries: Sequence[RunSummary], console: Console) -> None:
    """The table, where there are several classes."""
    if len(summaries) < 2:
        return
    classes, rows = side_by_side(summaries)
    table = Table("model", *classes, title="by device class", box=box.SIMPLE, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _place(decision: Decision, version: str) -> str:
    report = next((one for one in decision.candidates if one.version == version), None)
    if report is None:
        return "no candidate"
    if report.rank is None:
        return "out"
    won = f", {decision.verdict}" if decision.winner == version else ""
    return f"{report.rank}{won}" + ("" if report.score is None else f" ({figure(report.score)})")
