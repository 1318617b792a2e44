"""`milton serve`: the model server that one needs before anything else can be tried.

What belongs here: the verb. What does not: serving (`usecases.one_model`), and serving what is deployed to a target
without a failed request while it changes (`milton-serve`, `cli.serve`).
"""

from __future__ import annotations

import json
import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from milton_assets.cli.common import GgufOption, JsonOption, VersionArgument, current_settings, model_named
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.terminal import printable

if TYPE_CHECKING:
    from milton_assets.vocabulary.server import RunningServer

_LOOK_S = 2.0
"""How often it is looked whether the server still answers."""


def register(app: typer.Typer) -> None:
    """Add `serve`."""
    app.command()(serve)


def serve(
    version: VersionArgument = None,
    gguf: GgufOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to listen, on this machine only.")] = 8000,
    slots: Annotated[int | None, typer.Option(min=1, help="Requests at once. By default as the settings say.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve one model here at an OpenAI-compatible address, as an edge target would, until Ctrl-C.

    For looking at a model, and for `milton bench`. What is deployed to a target is served by `milton-serve`.

    Example: milton serve smollm2-135m-q4_1
    """
    from milton_assets.usecases.one_model import served

    settings = current_settings()
    model = model_named(settings, version, gguf)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    typer.echo(f"starting a server for {printable(model.name)} …", err=True)
    with served(settings, model, slots=slots, port=port) as running:
        typer.echo(_told(running, as_json=as_json))
        failed = _wait(ended, running)
    # A server that ended has said how at the end of the block; one that is there and answers no more is told here.
    if failed is not None:
        raise failed


def _wait(ended: threading.Event, running: RunningServer) -> MiltonError | None:
    """Wait for the end; what is wrong when the server answered no more before that."""
    from resources.servers.probe import probe

    while not ended.wait(_LOOK_S):
        try:
            probe(running.endpoint.base_url, running.endpoint.model)
        except MiltonError as error:
            return error
    return None


def _told(running: RunningServer, *, as_json: bool) -> str:
    endpoint, fingerprint = running.endpoint, running.fingerprint
    if as_json:
        told = {
            "base_url": endpoint.base_url,
            "model": endpoint.model,
            "slots": endpoint.slots,
            "server": fingerprint.model_dump(mode="json"),
        }
        return json.dumps(told)
    name = printable(endpoint.model)
    body = json.dumps({"model": endpoint.model, "messages": [{"role": "user", "content": "What is a lamp?"}]})
    return "\n".join(
        [
            f"{name} is served at {endpoint.base_url} by {fingerprint.name} {fingerprint.build or ''}".rstrip()
            + f" ({endpoint.slots} slot{'s' if endpoint.slots > 1 else ''}); Ctrl-C stops it",
            f"  ask      curl {endpoint.v1}/chat/completions -H 'Content-Type: application/json' -d '{body}'",
            f"  measure  milton bench inference --base-url {endpoint.base_url} --model {name}",
        ]
    )
