"""`milton tune`: a small search over the settings of the model server, and what to put into milton.yaml.

What belongs here: the verb's arguments and its card. What does not: the search and its measurements
(`usecases.tuning`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from milton_assets.cli.common import (
    GgufOption,
    JsonOption,
    VersionArgument,
    answer,
    current_settings,
    model_named,
    progress_on_stderr,
)
from milton_assets.vocabulary.terminal import printable

if TYPE_CHECKING:
    from milton_assets.usecases.tuning import Card


def register(app: typer.Typer) -> None:
    """Add `tune`."""
    app.command()(tune)


def tune(
    version: VersionArgument = None,
    gguf: GgufOption = None,
    device_class: Annotated[
        str | None,
        typer.Option(
            "--class", metavar="NAME", help="Search on the reference device of this class, from its own settings."
        ),
    ] = None,
    draft: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A small GGUF of the same vocabulary, to draft with; with --class, its absolute path on the device.",
        ),
    ] = None,
    figure: Annotated[
        str,
        typer.Option(
            "--for", help="What to improve: output_tokens_per_s, ttft_ms.median, tpot_ms.median or e2e_ms.median."
        ),
    ] = "output_tokens_per_s",
    rounds: Annotated[int, typer.Option(min=3, max=100, help="Rounds in turn, a comparison.")] = 8,
    requests: Annotated[int, typer.Option(min=1, help="Requests a round, at least one a slot.")] = 3,
    max_tokens: Annotated[int, typer.Option(min=2, help="Tokens to generate at most, a request.")] = 64,
    prompt_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Make prompts about so long; the tier's own are too short to tell batches apart."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Search faster settings for one model, here or on a class's device: offload, threads, batch, KV cache, a draft.

    Starts from the settings in force, measures each other one in turn with the best so far, and calls nothing better
    that lies within the noise between two servers of the same settings, or that makes the first token later (with
    --for a time: throughput lower). Changes nothing: it prints what to put into milton.yaml. The rounds are kept as
    evidence.

    Example: milton tune smollm2-135m-q4_1

    Example: milton tune smollm2-135m-q4_1 --for ttft_ms.median --prompt-tokens 600

    Example: milton tune smollm2-135m-q4_1 --class pi5
    """
    from milton_assets.usecases.tuning import TuningPlan
    from milton_assets.usecases.tuning import tune as search

    settings = current_settings()
    model = model_named(settings, version, gguf)
    plan = TuningPlan(figure, rounds, requests, max_tokens, prompt_tokens)
    if draft is not None and device_class is None:
        draft = draft.absolute()
    card = search(settings, model, plan, device_class=device_class, draft=draft, on_progress=progress_on_stderr())
    answer(card.to_json(), as_json=as_json, text=lambda console: draw(console, card))


def draw(console: Console, card: Card) -> None:
    """The card for people: each setting tried with its interval, what was skipped, and what to write."""
    told = card.to_json()

    def line(text: str) -> None:
        console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    where = f" on {told['on']}" if told["on"] else ""
    line(f"{told['figure']} of {told['model']}{where}: above 1 is better than what it was measured beside")
    others = [name for name in told["noises"] if name != told["figure"]]
    table = Table("settings", "beside", "times as good", "95 % interval", *others, "verdict")
    for ratio in told["repeats"]:
        table.add_row("in force", "the same anew", *_cells(ratio), *("" for _ in others), "noise")
    for trial in told["trials"]:
        table.add_row(*_row(trial, others))
    if told["confirmation"]:
        table.add_row(*_row(told["confirmation"], others, "in all, anew: "))
    console.print(table)
    line(f"noise: the same settings differ from themselves by up to a factor of {told['noise']:.3f}")
    for trial in told["trials"]:
        if trial["because"]:
            line(f"{trial['verdict'].replace('_', ' ')}: {trial['of']}: {trial['because']}")
    for axis, why in told["skipped"].items():
        line(f"skipped: {axis}: {why}")
    for caution in told["cautions"]:
        line(f"caution: {caution}")
    line(f"evidence: {told['evidence']}")
    if not card.settings:
        line("Nothing was better beyond the noise: leave the settings as they are.")
        return
    line(f"In milton.yaml{where} (the other settings of that section stay as they are):")
    for one in as_yaml(card).splitlines():
        line(f"  {one}")


def as_yaml(card: Card) -> str:
    """What to put into milton.yaml."""
    import yaml

    return yaml.safe_dump({card.section: dict(card.settings)}, sort_keys=False, allow_unicode=True)


def _row(trial: dict[str, Any], others: list[str], before: str = "") -> tuple[str, ...]:
    cells = _cells(trial["gain"]) if trial["gain"] else ("", "")
    names = (printable(f"{before}{trial['of']}"), printable(trial["against"]))
    beside = (f"{trial['gains'][name]['value']:.3f}" if name in trial["gains"] else "" for name in others)
    return (*(name.replace("[", r"\[") for name in names), *cells, *beside, trial["verdict"].replace("_", " "))


def _cells(ratio: dict[str, float]) -> tuple[str, str]:
    return f"{ratio['value']:.3f}", f"{ratio['low']:.3f} … {ratio['high']:.3f}"
