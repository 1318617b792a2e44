"""`milton env`: the exports that make the literal `dagster job execute -j autobench` work.

What belongs here: which variables, and putting dagster.yaml where Dagster looks for it. What does not: their meaning,
which `resources.campaign` and `vocabulary.state` document.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import typer

import milton_assets
from milton_assets.cli.common import JsonOption, answer
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.state import StateDir

DEMO_SETTING = "smoke"


def register(app: typer.Typer) -> None:
    """Add `env`."""
    app.command("env")(env)


def env(as_json: JsonOption = False) -> None:
    """Print the exports for Dagster: [bold]eval "$(milton env)"[/bold], then `dagster job execute -j autobench`.

    Also puts dagster.yaml into DAGSTER_HOME. Variables that are set already are kept. When the registry holds nothing
    but the demo's models, profile and policy are `smoke`, whose thresholds suit models of that size; for any other
    registry they are `full` and `seed`.
    """
    exports = exports_for(os.environ)
    install_dagster_yaml(Path(exports["DAGSTER_HOME"]))
    text = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in exports.items())
    answer(exports, as_json=as_json, text=lambda _: typer.echo(text))


def exports_for(environment: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """The variables and their values, those that are set already as they are."""
    state = StateDir.from_environment(environment)
    setting = DEMO_SETTING if only_demo_models(state.registry) else None
    defaults = {
        "MILTON_STATE_DIR": str(state.root),
        "DAGSTER_HOME": str(state.dagster),
        "DAGSTER_MODULE_NAME": "milton_assets.definitions",
        "MILTON_PROFILE": setting or "full",
        "MILTON_POLICY": setting or "seed",
    }
    return {name: environment.get(name) or value for name, value in defaults.items()}


def only_demo_models(registry: Path) -> bool:
    """Whether the registry holds entries and `milton demo` wrote every one."""
    from resources.demo_models import is_demo
    from resources.registries.json_file import registered

    entries = registered(registry) if registry.exists() else {}
    return bool(entries) and all(is_demo(entry) for entry in entries.values())


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
