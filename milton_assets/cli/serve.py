"""`milton-serve`: serve a target of this machine at one address, whatever is deployed to it meanwhile.

What belongs here: its arguments. What does not: how it is done (`edge.serving`, put together by `usecases.serving`). It
is a program of its own, because a device runs it without the rest of the command line.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from milton_assets.cli.common import EXIT_NO, current_settings
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.os_errors import explained


class _Mode(StrEnum):
    AUTO = "auto"
    ONE = "one"
    TWO = "two"


def serve(
    target: Annotated[str | None, typer.Option("--target", metavar="NAME", help="The target; `local` if none.")] = None,
    target_path: Annotated[Path | None, typer.Option(metavar="DIR", help="Its folder, instead of its name.")] = None,
    host: Annotated[str | None, typer.Option(help="Where to listen; the setting `serving.host`.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The port; the setting `serving.port`.")] = None,
    mode: Annotated[_Mode | None, typer.Option(help="Memory for how many models; the setting `serving.mode`.")] = None,
    slots: Annotated[
        int | None,
        typer.Option(min=1, help="Requests at once. By default as the release was measured, so that answers compare."),
    ] = None,
    hold: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds that a request waits for a model before it gets 503.")
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(help="Ask canary questions while nobody asks, look at the device, and go back when it is ill."),
    ] = True,
    drain: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds that an old model's requests may take before they are cut.")
    ] = None,
) -> None:
    """Serve what is current on a target, at one OpenAI-compatible address, until Ctrl-C.

    What is deployed meanwhile is taken up without a failed request. SIGHUP looks for it now and tries again what
    failed. `/health` says which release answers, `/metrics` what requests took.

    Example: milton-serve --target local --port 8080
    """
    from milton_assets.edge.serving.service import serve as serve_until_ended
    from milton_assets.usecases.serving import say_on_stderr, served_target, service_of

    settings = current_settings()
    place = served_target(settings, target, target_path)
    service = service_of(
        settings,
        place,
        say=say_on_stderr,
        host=host,
        port=port,
        mode=mode,
        slots=slots,
        hold_s=hold,
        drain_s=drain,
        watched=watch,
    )
    serve_until_ended(service)


def main() -> None:
    """Entry point of the `milton-serve` script."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
    app.command()(serve)
    try:
        app()
    except MiltonError as error:
        typer.echo(f"milton-serve: {error}", err=True)
        sys.exit(EXIT_NO)
    except OSError as error:
        typer.echo(f"milton-serve: {explained(error, '`milton-serve`')}", err=True)
        sys.exit(EXIT_NO)
