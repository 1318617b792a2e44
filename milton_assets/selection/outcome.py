"""What a run came to, on the terminal: the decision card, what lies where, and what to type next.

What belongs here: the frame around the card, the same for `milton results` and for the end of a campaign. What does
not: the card itself (`card`).
"""

from __future__ import annotations

from rich.console import Console

from milton_assets.selection import card
from milton_assets.selection.summary import RunSummary
from milton_assets.vocabulary.documents import Documents
from milton_assets.vocabulary.places import Place
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.terminal import printable
from milton_assets.vocabulary.tier_spec import Tiers

MANY_TARGETS = 12
"""So many deployments are listed, the newest; a fleet has a verb of its own."""


def print_outcome(summary: RunSummary, runs: Place, state: StateDir, console: Console, tiers: Tiers) -> None:
    """The card, then places and next commands. `runs` holds the summary, `state` is the folder of this machine."""
    card.render(summary.decision, console, tiers)
    console.print()
    for note in summary.notes:
        warns = note.startswith("WARNING")
        console.print(
            f"{'' if warns else 'note':<12}{printable(note)}", style="bold red" if warns else None, markup=False
        )
    for label, place in places(summary, runs, state):
        console.print(f"{label:<12}{place}", soft_wrap=True, markup=False)
    console.print()
    for number, (command, purpose) in enumerate(next_commands(summary)):
        console.print(f"{'' if number else 'next':<12}{command:<48} {purpose}", soft_wrap=True, markup=False)


def places(summary: RunSummary, runs: Place, state: StateDir) -> list[tuple[str, str]]:
    """Label and path of everything the run left behind."""
    rows = [("summary", str(Documents(runs).place(summary.run_id)))]
    if summary.report:
        page = summary.report.path
        rows.append(("page", page if "://" in page else str(state.place(page))))
    rows.append(("bundle", str(state.place(summary.bundle.path)) if summary.bundle else "none was made by this run"))
    shown = summary.deployments[-MANY_TARGETS:]
    rows += [("deployment", f"{d.id} on {d.target}: {state.place(d.path)}") for d in shown]
    if left_out := len(summary.deployments) - len(shown):
        rows.append(("", f"and {left_out} before these; `milton fleet` shows which release is where"))
    return rows


def next_commands(summary: RunSummary) -> list[tuple[str, str]]:
    """Command and purpose of what somebody who has just seen the card would type."""
    commands = []
    if summary.deployments:
        latest = summary.deployments[-1]
        commands.append((f"milton trace {latest.id}", "why this file is on that device"))
        commands.append((f"milton rollback --target {latest.target}", "back to the release before"))
    commands.append((f"milton results {summary.run_id}", "this card again"))
    commands.append(("make ui", "the graph and its lineage in the browser"))
    return commands
