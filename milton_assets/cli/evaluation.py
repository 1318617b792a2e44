"""`milton evaluation import / list / forget`: logs of others as evidence about registered models.

What belongs here: the verbs. What does not: what an import is (`milton_assets.usecases.evaluations`), and running an
evaluation (`bench_evaluations`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from milton_assets.cli.common import JsonOption, answer, current_settings, registry_of
from milton_assets.vocabulary.terminal import printable

if TYPE_CHECKING:
    from milton_assets.usecases.evaluations import ImportedLog
    from milton_assets.vocabulary.registry import Artefact

Tier = Annotated[str, typer.Option(help="The tier that the log is of; docs/evaluations.md says how to make one.")]
Version = Annotated[
    str, typer.Option("--model", metavar="VERSION", help="The registered version whose weights answered.")
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Evaluations that were run elsewhere, as evidence.", no_args_is_help=True)
    group.command("import")(import_)
    group.command("list")(list_)
    group.command()(forget)
    app.add_typer(group, name="evaluation")


def import_(
    log: Annotated[
        Path,
        typer.Argument(help="A log of inspect_ai (.eval, .json), results_DATE.json of lm-eval, or a folder with one."),
    ],
    tier: Tier,
    model: Version,
    told_as: Annotated[
        str | None, typer.Option(help="The model's name in the log, where it is not the version's or its file's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Import a log as evidence: the next campaign takes it in the place of measuring that tier of that version.

    A log proves nothing about weights, so the decision says that it was imported, and under which name the model
    answered.

    Example: milton evaluation import logs/2026-11-26_capitals.eval --tier capitals --model smollm2-135m-q4_1
    """
    from milton_assets.tiers.discovery import installed_tiers
    from milton_assets.usecases.compose import evidence_store_of
    from milton_assets.usecases.evaluations import import_log

    settings = current_settings()
    spec = installed_tiers()[tier]
    known = import_log(evidence_store_of(settings), spec, model, _artefact(model), log, told_as=told_as)
    _show(known, as_json=as_json, words="imported")


def list_(as_json: JsonOption = False) -> None:
    """List what was imported of every registered version's weights.

    Example: milton evaluation list --json | jq '.[].model_version'
    """
    from milton_assets.tiers.discovery import installed_tiers
    from milton_assets.usecases.compose import evidence_store_of
    from milton_assets.usecases.evaluations import imported_log
    from milton_assets.vocabulary.named_weights import NamedWeights

    settings = current_settings()
    store = evidence_store_of(settings)
    takes = [name for name, spec in installed_tiers().items() if spec.from_log is not None]
    found = [
        known
        for entry in registry_of(settings).read().entries.values()
        for artefact in entry.artefacts
        for tier in takes
        if (known := imported_log(store, tier, NamedWeights(entry.version, artefact.sha256))) is not None
    ]

    def text(console: Console) -> None:
        for known in found:
            console.print(_line(known), markup=False, highlight=False, soft_wrap=True)
        if not found:
            console.print("Nothing was imported.")

    answer([_payload(known) for known in found], as_json=as_json, text=text)


def forget(tier: Tier, model: Version, as_json: JsonOption = False) -> None:
    """Take an import back: the next campaign measures again. Decisions that rest on it keep it.

    Example: milton evaluation forget --tier capitals --model smollm2-135m-q4_1
    """
    from milton_assets.usecases.compose import evidence_store_of
    from milton_assets.usecases.evaluations import forget_log

    known = forget_log(evidence_store_of(current_settings()), tier, model, _artefact(model))
    _show(known, as_json=as_json, words="forgotten")


def _artefact(version: str) -> Artefact:
    settings = current_settings()
    return registry_of(settings).judged(version).artefact(settings.artifact)


def _payload(known: ImportedLog) -> dict[str, Any]:
    return known.model_dump(mode="json")


def _line(known: ImportedLog) -> str:
    return printable(
        f"{known.tier} of {known.model_version}: {known.log_file}, where the model is called {known.model_told} "
        f"({known.imported_at:%Y-%m-%d %H:%M} UTC)"
    )


def _show(known: ImportedLog, *, as_json: bool, words: str) -> None:
    def text(console: Console) -> None:
        console.print(f"{words}: {_line(known)}", markup=False, highlight=False, soft_wrap=True)
        if known.files:
            console.print("Next: milton autobench, or benchmark that version", markup=False)

    answer(_payload(known), as_json=as_json, text=text)
