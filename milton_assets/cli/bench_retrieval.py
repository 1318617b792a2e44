"""`milton bench retrieval`: the retrieval tier against any running server, without Dagster.

What belongs here: the verb's arguments and how its answer looks. What does not: measuring
(`milton_assets.tiers.retrieval`) and HTTP (`resources.servers`).
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
    from milton_assets.vocabulary.metric import Metric
    from milton_assets.vocabulary.tier import TierResult


def register(app: typer.Typer) -> None:
    """Add `retrieval`."""
    app.command("retrieval")(bench_retrieval)


def bench_retrieval(
    base_url: Annotated[str, typer.Option(help="The server's address, e.g. http://127.0.0.1:8000")],
    model: Annotated[str, typer.Option(help="The name the server lists the model under.")],
    dataset: Annotated[
        Path | None,
        typer.Option(help="A BEIR folder (corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv). Default: the shipped one."),
    ] = None,
    split: Annotated[str, typer.Option(help="Which qrels/SPLIT.tsv to use.")] = "test",
    method: Annotated[
        str, typer.Option(help="pointwise (logprobs of Yes and No) or listwise (windows put in order).")
    ] = "pointwise",
    pool_size: Annotated[int, typer.Option(min=1, max=1000, help="How many documents BM25 fetches a query.")] = 20,
    limit: Annotated[int | None, typer.Option(min=1, help="Take a fixed subset of this many queries.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Calls in flight at once. Default: the server's slots.")
    ] = None,
    embedding_model: Annotated[
        str | None, typer.Option(help="Also measure dense retrieval with this model, and its fusion with BM25.")
    ] = None,
    embedding_url: Annotated[
        str | None, typer.Option(help="The server that embeds (/v1/embeddings). Default: --base-url.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="MILTON_API_KEY", help="Sent as a bearer token.", show_envvar=True)
    ] = None,
    embedding_api_key: Annotated[
        str | None,
        typer.Option(
            envvar="MILTON_EMBEDDINGS_KEY",
            help="The key of --embedding-url; the model's own is not sent there.",
            show_envvar=True,
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds before a call is given up.")] = 120.0,
    as_json: JsonOption = False,
) -> None:
    """Have a model rerank BM25's pool for every query and score the rankings (nDCG@10 and others).

    Exits 1 when no figure about the model could be had, because every call failed.

    Example: milton bench retrieval --base-url http://127.0.0.1:8000 --model my-model --limit 20
    """
    from milton_assets.tiers.retrieval import Method, RetrievalPlan, load_goldens, measure_retrieval
    from milton_assets.tiers.retrieval.measures import HEADLINE
    from milton_assets.vocabulary.metric import Status
    from resources.servers.attached import AttachedServer
    from resources.servers.client import OpenAIChatModel
    from resources.servers.repeatable import repeatable_options
    from resources.side_models import SideModel

    if method not in set(Method):
        raise typer.BadParameter(f"{method!r} is none of {[one.value for one in Method]}", param_hint="--method")
    if embedding_url and not embedding_model:
        raise typer.BadParameter("it needs --embedding-model", param_hint="--embedding-url")
    goldens = load_goldens(dataset)
    with ExitStack() as stack:
        served = stack.enter_context(AttachedServer(base_url, api_key).attach(model))
        plan = RetrievalPlan(
            split=split,
            method=Method(method),
            pool_size=pool_size,
            max_queries=limit,
            concurrency=concurrency or served.endpoint.slots,
        )
        options = repeatable_options(served.fingerprint)
        chat = stack.enter_context(OpenAIChatModel(served.endpoint, timeout, extra=options))
        embedder = None
        if embedding_model:
            key = embedding_api_key if embedding_url else api_key
            side = SideModel(embedding_url or base_url, embedding_model, key, timeout)
            embedder = stack.enter_context(side.client())
        result = measure_retrieval(chat, goldens, plan, on_progress=progress_on_stderr(), embedder=embedder)
    payload = _payload(result, served.fingerprint.model_dump(mode="json"))
    answer(payload, as_json=as_json, text=lambda console: _draw(console, result))
    if result.metric(HEADLINE).status is not Status.OK:
        raise typer.Exit(EXIT_NO)


def _payload(result: TierResult, server: dict[str, Any]) -> dict[str, Any]:
    import pandas as pd

    queries = [
        {key: None if not isinstance(value, list) and pd.isna(value) else value for key, value in row.items()}
        for row in result.samples.to_dict("records")
    ]
    return {
        "tier": result.tier,
        "metrics": [metric.model_dump(mode="json") for metric in result.metrics],
        "queries": queries,
        "provenance": dict(result.provenance),
        "server": server,
    }


def _draw(console: Console, result: TierResult) -> None:
    told = result.provenance
    table = Table("metric", "value", "95 % interval", "n", "failed", title=f"Retrieval on {told['dataset']}")
    for metric in result.metrics:
        table.add_row(metric.name, _value(metric), _interval(metric), str(metric.n), str(metric.errors))
    console.print(table)
    for kind, count in told["failures"].items():
        console.print(f"{count} of {told['calls']} calls failed: {kind}")


def _value(metric: Metric) -> str:
    return f"{metric.status.value}: {metric.why}" if metric.value is None else f"{metric.value:.3f}"


def _interval(metric: Metric) -> str:
    return f"{metric.interval.low:.3f} … {metric.interval.high:.3f}" if metric.interval else ""
