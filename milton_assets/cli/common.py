"""What every verb of the command line shares.

What belongs here: the `--json` option, printing an answer for people or machines, and the exit codes (0 yes, 1 no,
2 usage). What does not: any verb.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from milton_assets.vocabulary.progress import OnProgress, Progress
from milton_assets.vocabulary.terminal import console

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text for people.")]

EXIT_NO = 1


def answer(payload: Any, *, as_json: bool, text: Callable[[Console], None]) -> None:
    """Print `payload` as JSON on standard output, or let `text` draw it on a console there."""
    if as_json:
        typer.echo(json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        text(console())


def say_no(message: str) -> typer.Exit:
    """Print why the answer is no on standard error; raise what this returns to exit 1."""
    typer.echo(message, err=True)
    return typer.Exit(EXIT_NO)


def progress_on_stderr() -> OnProgress:
    """A listener that prints a line a step on standard error, so that standard output stays clean for `--json`."""
    errors = Console(stderr=True, highlight=False)

    def show(step: Progress) -> None:
        errors.print(f"[dim]{step.stage}[/dim] {step.done}/{step.total} {escape(step.note)}", soft_wrap=True)

    return show
