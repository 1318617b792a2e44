"""`milton env`: the exports that make the literal `dagster job execute -j autobench` work.

What belongs here: which variables, and putting dagster.yaml where Dagster looks for it. What does not: settings, which
every process reads for itself (`milton_assets.settings`); exported, they would outlive what they were meant for.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import typer

import milton_assets
from milton_assets.cli.common import JsonOption, answer, current_settings
from milton_assets.settings import Settings, dagster_home, dagster_module
from milton_assets.vocabulary.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add `env`."""
    app.command("env")(env)


def env(as_json: JsonOption = False) -> None:
    """Print the exports for Dagster: [bold]eval "$(milton env)"[/bold], then `dagster job execute -j autobench`.

    Also puts dagster.yaml into DAGSTER_HOME, and checks every setting, so that a campaign does not begin in vain.
    DAGSTER_HOME and DAGSTER_MODULE_NAME are kept where they are set already.
    """
    settings = current_settings()
    from milton_assets.usecases.settings_check import check_settings  # it loads every tier

    check_settings(settings)
    exports = exports_for(settings)
    install_dagster_yaml(Path(exports["DAGSTER_HOME"]))
    text = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in exports.items())
    answer(exports, as_json=as_json, text=lambda _: typer.echo(text))


def exports_for(settings: Settings, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables and their values; `environment` replaces the process's."""
    return {
        "MILTON_STATE_DIR": str(settings.state_dir),
        "DAGSTER_HOME": str(dagster_home(settings, environment)),
        "DAGSTER_MODULE_NAME": dagster_module(environment),
    }


def install_dagster_yaml(home: Path) -> None:
    """Link the project's dagster.yaml into DAGSTER_HOME unless something is there; `BadInput` if we have none."""
    home.mkdir(parents=True, exist_ok=True)
    there = home / "dagster.yaml"
    if there.exists():
        return
    ours = Path(milton_assets.__file__).resolve().parent.parent / "dagster.yaml"
    if not ours.is_file():
        raise BadInput(
            f"{there} is missing and {ours} is not there to be linked",
            expected="an installation from a checkout (`pip install -e .`)",
            remedy=f"put the project's dagster.yaml at {there}",
        )
    there.unlink(missing_ok=True)
    there.symlink_to(ours)
