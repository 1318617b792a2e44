"""What every verb of the command line shares.

What belongs here: the `--json` option, printing an answer for people or machines, the exit codes (0 yes, 1 no,
2 usage), the settings, the server that is measured, and holding evidence against its files. What does not: any verb.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from milton_assets.settings import Settings, read_settings
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.progress import OnProgress, Progress
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.terminal import console, holds_any_text, printable

if TYPE_CHECKING:
    from milton_assets.usecases.one_model import OneModel
    from milton_assets.vocabulary.evidence import EvidenceManifest
    from milton_assets.vocabulary.registry import RegistryStore
    from milton_assets.vocabulary.server import RunningServer

VersionArgument = Annotated[
    str | None, typer.Argument(metavar="[VERSION]", help="A model version, as `milton registry list` shows it.")
]
GgufOption = Annotated[
    Path | None, typer.Option("--gguf", metavar="FILE", help="A GGUF file instead, which need not be registered.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text for people.")]

EXIT_NO = 1
GGUF_HELP = "A GGUF file to serve for as long as it is measured, instead of a running server."
CA_FILE_HELP = "Certificates to trust beside the system's, in PEM form, for a server with its own."


def answer(payload: Any, *, as_json: bool, text: Callable[[Console], None]) -> None:
    """Print `payload` (or what it returns, where it takes time to make) as JSON on standard output, or let `text` draw
    it on a console there."""
    if as_json:
        told = payload() if callable(payload) else payload
        typer.echo(json.dumps(told, indent=2, ensure_ascii=not holds_any_text(), allow_nan=False))
    else:
        text(console())


def say_no(message: str) -> typer.Exit:
    """Print why the answer is no on standard error; raise what this returns to exit 1."""
    typer.echo(message, err=True)
    return typer.Exit(EXIT_NO)


def text_given(text: str) -> str:
    """An argument that is text for people, not a path: UTF-8 whatever the locale. Raises `BadInput` for other bytes."""
    try:
        return os.fsencode(text).decode()
    except UnicodeDecodeError:
        raise BadInput(
            f"{printable(text)!r:.200} was given in another encoding", expected="text in UTF-8", remedy="use ASCII"
        ) from None
    except UnicodeEncodeError:
        return text  # it is whole already, and only the locale could not write it back


def current_settings() -> Settings:
    """The settings of this process, the same that the graph has; what looks like a misspelt variable is said once.

    Raises `BadInput` with every setting that does not hold, and its source.
    """
    reading = read_settings()
    for note in reading.notes:
        if note not in _told:
            typer.echo(f"warning: {note}", err=True)
            _told.add(note)
    return reading.settings


def current_state() -> StateDir:
    """The state folder of this process's settings."""
    return current_settings().state


_told: set[str] = set()


def check_evidence_files(settings: Settings, evidence: EvidenceManifest) -> None:
    """Raise `EvidenceMismatch` unless every file that `evidence` pins is as it was; the event log is not asked."""
    from milton_assets.usecases.compose import evidence_store_of
    from resources.evidence_store import check_files

    check_files(evidence_store_of(settings), evidence)


def registry_of(settings: Settings) -> RegistryStore:
    """The registry that the settings name; composed when it is asked for, so that help needs none of it."""
    from milton_assets.usecases import compose

    return compose.registry_of(settings)


def show_error_examples(console: Console, said: Mapping[str, str]) -> None:
    """What the server said at the first error of each kind, a line each."""
    for kind, words in said.items():
        console.print(f"  {kind}: {printable(words)}", markup=False, highlight=False, soft_wrap=True)


def model_named(settings: Settings, version: str | None, gguf: Path | None) -> OneModel:
    """The registered `version`, or the file. Raises `typer.BadParameter` unless exactly one of the two is named."""
    from milton_assets.usecases.one_model import gguf_file, registered

    if (version is None) == (gguf is None):
        raise typer.BadParameter("name a VERSION of the registry, or a file with --gguf", param_hint="VERSION")
    return gguf_file(gguf) if gguf else registered(settings, version or "")


@contextmanager
def server_to_bench(
    base_url: str | None, model: str | None, gguf: Path | None, *, api_key: str | None, ca_file: Path | None
) -> Iterator[RunningServer]:
    """The server that `milton bench` measures: the one at `base_url`, or one that serves `gguf` meanwhile.

    Raises `typer.BadParameter` unless exactly one of the two is named, and a server's model with it.
    """
    from resources.servers.attached import AttachedServer

    if (base_url is None) == (gguf is None):
        raise typer.BadParameter("name a running server's --base-url, or a file with --gguf", param_hint="--base-url")
    if gguf is not None:
        from milton_assets.usecases.one_model import gguf_file, served

        with served(current_settings(), gguf_file(gguf, model)) as running:
            yield running
        return
    if model is None or base_url is None:
        raise typer.BadParameter("it needs --model, the name the server lists it under", param_hint="--base-url")
    with AttachedServer(base_url, api_key, ca_file=ca_file).attach(model) as running:
        yield running


def progress_on_stderr() -> OnProgress:
    """A listener that prints a line a step on standard error, so that standard output stays clean for `--json`."""
    errors = Console(stderr=True, highlight=False)

    def show(step: Progress) -> None:
        errors.print(f"[dim]{step.stage}[/dim] {step.done}/{step.total} {escape(printable(step.note))}", soft_wrap=True)

    return show
