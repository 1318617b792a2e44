"""The root of the `milton` command, and its entry point.

What belongs here: assembling the verbs, and turning errors into one clear line and an exit code (0 yes, 1 no, 2 usage,
130 interrupted). What does not: the verbs; each group has a module beside this one with a `register` function.
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import takewhile
from typing import Annotated, NoReturn

import typer

from milton_assets import __version__
from milton_assets.cli import (
    autobench,
    bench,
    bundle,
    canary,
    config,
    deploy,
    device_policy,
    environment,
    evaluation,
    fleet,
    keys,
    metrics,
    policy,
    registry,
    report,
    results,
    rollout,
    serve_model,
    target,
    trace,
    tracking,
    tune,
    why,
)
from milton_assets.cli.autobench import EXIT_INTERRUPTED
from milton_assets.cli.common import EXIT_NO
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.os_errors import explained
from milton_assets.vocabulary.terminal import show_anything


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"milton {__version__}")
        raise typer.Exit


def build_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="milton",
        help="Decides, on evidence, which registered language model serves on the edge, and takes it there safely.",
        epilog="Exit codes: 0 yes, 1 no, 2 usage, 130 interrupted.",
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
        """What the command takes without a verb."""

    environment.register(app)
    autobench.register(app)
    config.register(app)
    registry.register(app)
    measuring = (serve_model, bench, tune, evaluation, results, report, why, bundle, keys)
    for verbs in (*measuring, deploy, target, canary, rollout, fleet, metrics, policy, device_policy, trace, tracking):
        verbs.register(app)
    return app


def main() -> None:
    """Entry point of the `milton` script."""
    show_anything()
    _heed_interrupts()
    try:
        build_app()()
    except MiltonError as error:
        typer.echo(f"milton: {error}", err=True)
        sys.exit(EXIT_NO)
    except OSError as error:
        _explain(error)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _heed_interrupts() -> None:
    """A shell without job control starts what stands before an `&` with SIGINT ignored, and what ignores it cannot be
    ended in an orderly way: neither by it, nor by what takes SIGTERM for it, nor in the processes it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _explain(error: OSError) -> NoReturn:
    """Say what the operating system refused, where, and what to do next; exit 1. A reader that left is told nothing."""
    verb = "`" + " ".join(["milton", *takewhile(lambda word: not word.startswith("-"), sys.argv[1:3])]) + "`"
    told: MiltonError = explained(error, verb)
    if error.errno is not None and error.filename is None and not _takes_more(sys.stdout.fileno()):
        told = MiltonError(
            f"the answer of {verb} could not be written: {os.strerror(error.errno or 0)} (standard output)",
            remedy="send it to a file or a pipe that takes it",
        )
        # What was not written would be tried again at exit, and Python complain about it there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        typer.echo(f"milton: {told}", err=True)
    sys.exit(EXIT_NO)


def _takes_more(descriptor: int) -> bool:
    """Whether a line can still be written there; an error of a write does not say of which file."""
    try:
        os.write(descriptor, b"\n")
    except OSError:
        return False
    return True
