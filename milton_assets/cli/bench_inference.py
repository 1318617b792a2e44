"""`milton bench inference`: the inference tier against any running server, without Dagster.

What belongs here: the verb's arguments and how its answer looks. What does not: measuring (`milton_assets.inference`)
and attaching (`resources.servers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from milton_assets.cli.common import EXIT_NO, JsonOption, answer, progress_on_stderr

if TYPE_CHECKING:
    from milton_assets.inference import InferencePlan
    from milton_assets.vocabulary.fingerprint import Fingerprint
    from milton_assets.vocabulary.metric import Metric
    from milton_assets.vocabulary.tier import TierResult

DISTRIBUTIONS = ("ttfb_ms", "ttft_ms", "ttfv_ms", "tpot_ms", "itl_ms", "e2e_ms", "request_output_tokens_per_s")
SYSTEM = ("output_tokens_per_s", "requests_per_s", "success_rate", "slo_share", "goodput_per_s")
STATISTICS = ("mean", "median", "std", "p95", "p99")


def register(app: typer.Typer) -> None:
    """Add `inference`."""
    app.command("inference")(bench_inference)


def bench_inference(
    base_url: Annotated[str, typer.Option(help="The server's address, e.g. http://127.0.0.1:8000")],
    model: Annotated[str, typer.Option(help="The name the server lists the model under.")],
    concurrency: Annotated[
        int, typer.Option(min=1, max=4096, help="Requests in flight: each answer is followed by the next request.")
    ] = 1,
    requests: Annotated[
        int | None,
        typer.Option(min=1, help="Make exactly this many requests. Default: rounds until the figures are precise."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Requests a second that wait for no answer; latencies start at the scheduled instant."),
    ] = None,
    arrivals: Annotated[str, typer.Option(help="With --rate: poisson or constant.")] = "poisson",
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate at most, a request.")] = 128,
    warm_cache: Annotated[
        bool, typer.Option("--warm-cache", help="Repeat prompts, so that the server's prefix cache serves them.")
    ] = False,
    budget: Annotated[float, typer.Option(min=0.1, help="Seconds of measuring at most, without --requests.")] = 300.0,
    slo: Annotated[
        list[str] | None,
        typer.Option(help="A limit a request must keep, e.g. ttft_ms=200 or tpot_ms=50. May be repeated."),
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="MILTON_API_KEY", help="Sent as a bearer token.", show_envvar=True)
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds without a byte before a request is lost.")] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Measure time to first token, time per output token and throughput over the streaming API.

    Exits 1 when no request succeeded.

    Example: milton bench inference --base-url http://127.0.0.1:8000 --model my-model --concurrency 4
    """
    from milton_assets.inference import measure_inference
    from resources.hardware import fingerprint
    from resources.servers.attached import AttachedServer

    plan = _plan(
        {
            "load": {"kind": "open", "rate_per_s": rate, "arrivals": arrivals}
            if rate is not None
            else {"kind": "closed", "concurrency": concurrency},
            "max_tokens": max_tokens,
            "cache": "warm" if warm_cache else "cold",
            "stall_timeout_s": timeout,
            "budget_s": budget,
            "slo": dict(_limit(text) for text in slo) if slo else None,
            **({"requests_per_round": requests, "min_rounds": 1, "max_rounds": 1} if requests else {}),
        }
    )
    with AttachedServer(base_url, api_key).attach(model) as served:
        result = measure_inference(served.endpoint, plan, on_progress=progress_on_stderr())
        environment = fingerprint(served.fingerprint)
    payload = to_json(result, environment)
    answer(payload, as_json=as_json, text=lambda console: _draw(console, result, payload))
    if not result.metric("success_rate").value:
        raise typer.Exit(EXIT_NO)


def _limit(text: str) -> tuple[str, str]:
    name, found, limit = text.partition("=")
    if not found:
        raise typer.BadParameter(f"{text!r} is not NAME=MILLISECONDS", param_hint="--slo")
    return name, limit


def _plan(settings: Mapping[str, Any]) -> InferencePlan:
    from pydantic import ValidationError

    from milton_assets.inference import InferencePlan

    try:
        return InferencePlan.model_validate(settings)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
        raise typer.BadParameter(problems) from error


def to_json(result: TierResult, environment: Fingerprint) -> dict[str, Any]:
    """The answer for machines. A figure that could not be had is null; `metrics` says why.

    `ci95` of a distribution is the median's; `metrics` has the interval of every statistic that bears one.
    """
    told = result.provenance
    invalid = [metric for metric in result.metrics if not metric.valid]
    return {
        "definitions_version": told["definitions_version"],
        "requests": told["requests"],
        "errors": told["errors"],
        **{name: _distribution(result, name) for name in DISTRIBUTIONS},
        **{name: result.metric(name).value for name in SYSTEM},
        **{f"{name}_ci95": _interval(result.metric(name)) for name in SYSTEM},
        "valid": not invalid,
        "invalid_because": [f"{metric.name}: {metric.why}" for metric in invalid],
        "cache": told["cache"],
        "load": told["load"],
        "rounds": told["rounds"],
        "stop_reason": told["stop_reason"],
        "fingerprint": environment.model_dump(mode="json"),
        "metrics": [metric.model_dump(mode="json") for metric in result.metrics],
        "provenance": dict(told),
    }


def _distribution(result: TierResult, name: str) -> dict[str, Any]:
    values = {statistic: result.metric(f"{name}.{statistic}").value for statistic in STATISTICS}
    return {**values, "ci95": _interval(result.metric(f"{name}.median"))}


def _interval(metric: Metric) -> list[float] | None:
    return [metric.interval.low, metric.interval.high] if metric.interval else None


def _draw(console: Console, result: TierResult, payload: Mapping[str, Any]) -> None:
    table = Table("", *STATISTICS, "95 % interval of the median", title="Latency, ms", title_justify="left")
    for name in ("ttfb_ms", "ttft_ms", "ttfv_ms", "tpot_ms", "itl_ms", "e2e_ms"):
        metrics = [result.metric(f"{name}.{statistic}") for statistic in STATISTICS]
        table.add_row(name.removesuffix("_ms"), *map(_cell, metrics), _span(metrics[1]))
    console.print(table)
    for name in SYSTEM:
        metric = result.metric(name)
        if metric.value is not None:
            console.print(f"{name}: {metric.value:.3f} {metric.unit} {_span(metric)}".rstrip())
    errors = ", ".join(f"{count} {kind}" for kind, count in payload["errors"].items()) or "none"
    console.print(f"{payload['requests']} requests, {payload['cache']} cache; errors: {errors}")
    console.print(f"{payload['rounds']} round(s), stopped: {payload['stop_reason']}")
    for reason in payload["invalid_because"]:
        console.print(f"[yellow]invalid[/yellow] {reason}")


def _cell(metric: Metric) -> str:
    if metric.value is None:
        return metric.status.value
    return f"{metric.value:.2f}" if metric.valid else f"[yellow]{metric.value:.2f}?[/yellow]"


def _span(metric: Metric) -> str:
    return f"{metric.interval.low:.2f} … {metric.interval.high:.2f}" if metric.interval else ""
