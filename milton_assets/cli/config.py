"""`milton config`: a commented milton.yaml, what is set and where it came from, and whether it can be acted on.

What belongs here: the verbs' arguments and what they print. What does not: the settings (`milton_assets.settings`) and
holding them against what is there (`milton_assets.usecases.settings_check`).
"""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.console import Console

from milton_assets.cli.common import JsonOption, answer, say_no
from milton_assets.settings import SETTINGS_FILE, Reading, read_settings, state_of_process
from milton_assets.settings.describe import shown, template
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import write_atomic


def register(app: typer.Typer) -> None:
    """Add `config` and its verbs to the command line."""
    verbs = typer.Typer(help="The settings: milton.yaml, and where each value comes from.", no_args_is_help=True)
    verbs.command()(init)
    verbs.command()(show)
    verbs.command()(check)
    app.add_typer(verbs, name="config")


def init(as_json: JsonOption = False) -> None:
    """Write a milton.yaml into the state folder in which every setting stands with its default, commented out.

    One that is there is never overwritten.

    Example: milton config init
    """
    path = state_of_process().root / SETTINGS_FILE
    if path.exists():
        raise BadInput(f"{path} is there already", remedy="edit it; `milton config show` says what it comes to")
    write_atomic(path, template())
    answer(
        {"path": str(path)},
        as_json=as_json,
        text=lambda console: console.print(
            f"Wrote {path}. Next: remove the # before what you want to set, then milton config check", soft_wrap=True
        ),
    )


def show(as_json: JsonOption = False) -> None:
    """Show every setting, its value and where it came from: default, a line of milton.yaml, or a variable.

    No key is shown, only the name of the variable that holds it.

    Example: milton config show
    """
    from milton_assets.usecases.compose import chosen_of

    reading = read_settings()
    rows = shown(reading)
    chosen = chosen_of(reading.settings)
    for row in rows:
        if row["value"] is None and row["name"] in {"profile", "policy"}:
            row |= {"value": str(getattr(chosen, row["name"])), "from": "default, by what the registry holds"}
    payload = {"file": str(reading.file), "settings": rows, "notes": list(reading.notes)}
    answer(payload, as_json=as_json, text=lambda console: _draw(reading, rows, console))


def check(as_json: JsonOption = False) -> None:
    """Say whether the settings can be acted on: policy and its metrics, goldens, servers, targets, keys.

    Nothing is measured or started. Exits 1 with everything that is wrong.

    Example: milton config check
    """
    from milton_assets.usecases.compose import chosen_of
    from milton_assets.usecases.settings_check import problems_of

    reading = read_settings()
    problems = [str(problem) for problem in problems_of(reading.settings)]
    notes = list(reading.notes)
    if not problems:
        chosen = chosen_of(reading.settings)
        notes += chosen.notes

    def text(console: Console) -> None:
        for note in notes:
            console.print(f"note: {note}", soft_wrap=True, markup=False)
        if not problems:
            console.print(
                f"The settings hold: profile {chosen.profile}, policy {chosen.policy}, served by "
                f"{reading.settings.server.which}.",
                soft_wrap=True,
                markup=False,
            )

    answer({"holds": not problems, "problems": problems, "notes": notes}, as_json=as_json, text=text)
    if problems:
        raise say_no("\n".join(problems))


def _in_yaml(value: Any) -> str:
    """A value as it could stand in milton.yaml."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _draw(reading: Reading, rows: list[dict[str, Any]], console: Console) -> None:
    there = "" if reading.file.exists() else ", which is not there (`milton config init` writes it)"
    console.print(f"{reading.file}{there}\n", soft_wrap=True, markup=False, highlight=False)
    wide = max(len(row["name"]) for row in rows)
    for row in rows:
        line = f"{row['name']:<{wide}}  {_in_yaml(row['value']):<24}  {row['from']}"
        console.print(line.rstrip(), soft_wrap=True, markup=False, highlight=False)
    for note in reading.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
