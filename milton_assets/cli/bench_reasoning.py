"""`milton bench reasoning`: Chain-of-Verification against any running server, without Dagster.

What belongs here: options, and drawing the result. What does not: measuring (`milton_assets.tiers.reasoning`).
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from milton_assets.cli.common import EXIT_NO, JsonOption, answer, progress_on_stderr

if TYPE_CHECKING:
    from milton_assets.tiers.reasoning import ReasoningGoldens, ReasoningPlan
    from milton_assets.vocabulary.metric import Metric
    from milton_assets.vocabulary.tier import TierResult

BaseUrl = Annotated[str, typer.Option("--base-url", help="The server's address, e.g. http://127.0.0.1:8080.")]
ModelName = Annotated[str, typer.Option("--model", help="The name under which the server serves the model.")]
Dataset = Annotated[
    Path | None,
    typer.Option(
        "--dataset",
        exists=True,
        dir_okay=False,
        help="A JSON Lines file of questions and answers instead of the goldens that ship; see docs/reasoning.md.",
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most this many cases of each kind.")]
Concurrency = Annotated[
    int | None, typer.Option("--concurrency", min=1, max=1024, help="Calls at once. Default: the server's slots.")
]
Smoke = Annotated[bool, typer.Option("--smoke", help="A fixed sample of 30 cases with short answers.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Longest wait for one answer, in seconds.")]
JudgeUrl = Annotated[
    str | None, typer.Option("--judge-base-url", help="A second server, whose model judges what matching leaves open.")
]
JudgeName = Annotated[str | None, typer.Option("--judge-model", help="The name of the judge on that server.")]
ApiKeyFrom = Annotated[
    str | None, typer.Option("--api-key", envvar="OPENAI_API_KEY", help="The server's key, if it wants one.")
]
JudgeKeyFrom = Annotated[
    str | None,
    typer.Option("--judge-api-key", envvar="MILTON_JUDGE_KEY", help="The judge's key; the model's is not sent to it."),
]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("reasoning")(reasoning)


def reasoning(
    base_url: BaseUrl,
    model: ModelName,
    dataset: Dataset = None,
    limit: Limit = None,
    concurrency: Concurrency = None,
    smoke: Smoke = False,
    judge_base_url: JudgeUrl = None,
    judge_model: JudgeName = None,
    judge_api_key: JudgeKeyFrom = None,
    timeout_s: Timeout = 120.0,
    api_key: ApiKeyFrom = None,
    as_json: JsonOption = False,
) -> None:
    """Ask gold questions with factored Chain-of-Verification and score the final answers.

    Exits 1 when no figure about the model could be had, because every call failed.

    Example: milton bench reasoning --base-url http://127.0.0.1:8080 --model small --smoke
    """
    from milton_assets.tiers.reasoning import load_goldens, measure_reasoning
    from milton_assets.tiers.reasoning.datasets import load_dataset
    from milton_assets.tiers.reasoning.judge import ModelPin
    from milton_assets.usecases.judging import qualified_judge
    from milton_assets.vocabulary.metric import Status
    from resources.servers.attached import AttachedServer
    from resources.servers.client import OpenAIChatModel
    from resources.servers.repeatable import repeatable_options
    from resources.side_models import SideModel, loaded_sha256

    if (judge_base_url is None) != (judge_model is None):
        raise typer.BadParameter("--judge-base-url and --judge-model go together")
    side = SideModel(judge_base_url, judge_model, judge_api_key, timeout_s) if judge_base_url and judge_model else None
    goldens = load_goldens() if dataset is None else load_dataset(dataset)
    with ExitStack() as stack:
        served = stack.enter_context(AttachedServer(base_url, api_key).attach(model))
        candidate = ModelPin(
            model=model,
            base_url=served.endpoint.base_url,
            artefact_sha256=loaded_sha256(served.fingerprint) if side else None,
        )
        judge = stack.enter_context(qualified_judge(side, load_goldens().judge_pairs, [candidate]))
        options = repeatable_options(served.fingerprint)
        chat = stack.enter_context(OpenAIChatModel(served.endpoint, timeout_s, extra=options))
        plan = _plan(smoke=smoke, limit=limit, concurrency=concurrency or served.endpoint.slots)
        result = measure_reasoning(chat, goldens, plan, judge=judge, on_progress=progress_on_stderr())
    payload = _payload(result, served.fingerprint.model_dump(mode="json"))
    answer(payload, as_json=as_json, text=lambda console: _draw(result, goldens, console))
    if result.metric("cove_pass_rate").status is not Status.OK:
        raise typer.Exit(EXIT_NO)


def _plan(*, smoke: bool, limit: int | None, concurrency: int) -> ReasoningPlan:
    from milton_assets.tiers.reasoning import ReasoningPlan

    chosen = ReasoningPlan.smoke() if smoke else ReasoningPlan()
    changes: dict[str, Any] = {"concurrency": concurrency}
    if limit is not None:
        changes["cases_per_kind"] = limit
    return chosen.model_copy(update=changes)


def _payload(result: TierResult, server: dict[str, Any]) -> dict[str, Any]:
    rows = result.samples.astype(object).where(result.samples.notna(), None)
    return {
        "tier": result.tier,
        "metrics": [metric.model_dump(mode="json") for metric in result.metrics],
        "provenance": dict(result.provenance),
        "samples": rows.to_dict("records"),
        "server": server,
    }


def _draw(result: TierResult, goldens: ReasoningGoldens, console: Console) -> None:
    table = Table(title=f"Reasoning, goldens {goldens.version:.12}", title_justify="left")
    table.add_column("metric", no_wrap=True)
    for heading in ("value", "95 % interval", "n", "errors"):
        table.add_column(heading, justify="right", no_wrap=True)
    for metric in result.metrics:
        table.add_row(*_cells(metric))
    console.print(table)
    for why, names in _notes(result).items():
        console.print(f"{', '.join(names)}: {why}", style="dim", markup=False)


def _cells(metric: Metric) -> tuple[str, ...]:
    # A square bracket opens a tag for rich; this one opens an interval.
    interval = rf"\[{metric.interval.low:.2f}, {metric.interval.high:.2f}]" if metric.interval else ""
    return (metric.name, _value(metric), interval, str(metric.n), str(metric.errors))


def _value(metric: Metric) -> str:
    if metric.value is None:
        return metric.status.value
    number = f"{metric.value:,.0f}" if abs(metric.value) >= 1000 else f"{metric.value:.3g}"
    unit = "" if metric.unit == "fraction" else f" {metric.unit}"
    return number + unit + ("" if metric.valid else " (invalid)")


def _notes(result: TierResult) -> dict[str, list[str]]:
    """The metrics that carry a reason, by that reason."""
    notes: dict[str, list[str]] = {}
    for metric in result.metrics:
        if metric.why:
            notes.setdefault(metric.why, []).append(metric.name)
    return notes
