"""The root of the `milton` command, and its entry point.

What belongs here: assembling the verbs, and turning errors into one clear line and an exit code (0 yes, 1 no, 2 usage,
130 interrupted). What does not: the verbs; each group has a module beside this one with a `register` function.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from milton_assets import __version__
from milton_assets.cli import (
    bench,
    bundle,
    config,
    deploy,
    device_policy,
    environment,
    registry,
    results,
    trace,
)
from milton_assets.cli.common import EXIT_NO
from milton_assets.vocabulary.errors import MiltonError

EXIT_INTERRUPTED = 130


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"milton {__version__}")
        raise typer.Exit


def build_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="milton",
        help="Decides, on evidence, which registered language model serves on the edge, and takes it there safely.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )

    @app.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        """Exit codes: 0 yes, 1 no, 2 usage, 130 interrupted."""

    environment.register(app)
    config.register(app)
    registry.register(app)
    for verbs in (bench, results, bundle, deploy, device_policy, trace):
        verbs.register(app)
    return app


def main() -> None:
    """Entry point of the `milton` script."""
    try:
        build_app()()
    except MiltonError as error:
        typer.echo(f"milton: {error}", err=True)
        sys.exit(EXIT_NO)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
