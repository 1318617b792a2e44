"""`milton bench inference`: the inference tier against any running server, without Dagster.

What belongs here: the verb's arguments and how its answer looks. What does not: measuring
(`milton_assets.tiers.inference`) and attaching (`resources.servers`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from milton_assets.cli.common import (
    CA_FILE_HELP,
    EXIT_NO,
    GGUF_HELP,
    JsonOption,
    answer,
    progress_on_stderr,
    server_to_bench,
    show_error_examples,
)
from milton_assets.vocabulary.files import write_atomic

if TYPE_CHECKING:
    from milton_assets.tiers.inference import InferencePlan
    from milton_assets.tiers.inference.beside import Ratio
    from milton_assets.tiers.inference.sweep import LoadPoint
    from milton_assets.vocabulary.fingerprint import Fingerprint
    from milton_assets.vocabulary.metric import Metric
    from milton_assets.vocabulary.server import Endpoint
    from milton_assets.vocabulary.slo import SLO
    from milton_assets.vocabulary.tier import TierResult

DISTRIBUTIONS = ("ttfb_ms", "ttft_ms", "ttfv_ms", "tpot_ms", "itl_ms", "e2e_ms", "request_output_tokens_per_s")
SYSTEM = ("output_tokens_per_s", "requests_per_s", "success_rate", "slo_share", "goodput_per_s", "energy_j_per_token")
STATISTICS = ("mean", "median", "std", "p95", "p99")


def bench_inference(
    base_url: Annotated[str | None, typer.Option(help="The server's address, e.g. http://127.0.0.1:8000")] = None,
    model: Annotated[str | None, typer.Option(help="The name the server lists the model under.")] = None,
    gguf: Annotated[Path | None, typer.Option(help=GGUF_HELP)] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, max=4096, help="Requests in flight: each answer is followed by the next request.")
    ] = 1,
    requests: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Make exactly this many requests (--sweep: at each load; --capacity: at least as many at each rate). "
            "Default: rounds until the figures are precise.",
        ),
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
    budget: Annotated[
        float,
        typer.Option(
            min=0.1, help="Seconds of measuring at most (with --sweep or --capacity: a load), without --requests."
        ),
    ] = 300.0,
    slo: Annotated[
        list[str] | None,
        typer.Option(help="Limits a request must keep, e.g. ttft_ms=200,tpot_ms=50. May be repeated."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[MODEL=]URL",
            help="Another running server to compare with, a round of each in turn. May be repeated.",
        ),
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="MILTON_API_KEY", help="Sent as a bearer token.", show_envvar=True)
    ] = None,
    ca_file: Annotated[Path | None, typer.Option(help=CA_FILE_HELP)] = None,
    sweep_load: Annotated[
        bool, typer.Option("--sweep", help="Double the concurrency until throughput grows no more; one figure a load.")
    ] = False,
    capacity: Annotated[
        bool, typer.Option("--capacity", help="Search the highest rate that keeps --slo, starting at --rate.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the latencies (or the sweep) into this .png or .svg file.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds without a byte before a request is lost.")] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Measure time to first token, time per output token and throughput over the streaming API.

    With --against, several servers are measured at the same time, so that whatever drifts hits all alike, and their
    figures are set side by side. Exits 1 when no request to one of the servers succeeded.

    Example: milton bench inference --base-url http://127.0.0.1:8000 --model my-model --concurrency 4

    Example: milton bench inference --gguf my-model.gguf
    """
    from resources.hardware import fingerprint
    from resources.servers.attached import AttachedServer

    if picture is not None and picture.suffix not in {".png", ".svg"}:
        raise typer.BadParameter(f"{picture} ends in neither .png nor .svg", param_hint="--picture")
    if capacity and not slo:
        raise typer.BadParameter("--capacity needs an --slo to keep", param_hint="--capacity")
    if capacity and sweep_load:
        raise typer.BadParameter("ask for --sweep or --capacity, not both", param_hint="--capacity")
    if against and (capacity or sweep_load):
        raise typer.BadParameter("--against compares servers under one load", param_hint="--against")
    exactly = {"min_rounds": 1, "max_rounds": 1, "budget_s": None} if requests and not capacity else {}
    plan = _plan(
        {
            "load": {"kind": "open", "rate_per_s": rate, "arrivals": arrivals}
            if rate is not None
            else {"kind": "closed", "concurrency": concurrency},
            "max_tokens": max_tokens,
            "cache": "warm" if warm_cache else "cold",
            "stall_timeout_s": timeout,
            "budget_s": budget,
            "slo": _objective(slo) if slo else None,
            "requests_per_round": requests,
            **exactly,
        }
    )
    with ExitStack() as stack:
        first = stack.enter_context(server_to_bench(base_url, model, gguf, api_key=api_key, ca_file=ca_file))
        others = [_place(text, first.endpoint.model) for text in against or ()]
        attached = [
            first,
            *(stack.enter_context(AttachedServer(url, api_key, ca_file=ca_file).attach(name)) for name, url in others),
        ]
        servers = [(served.endpoint, fingerprint(served)) for served in attached]
        if len(servers) > 1:
            outcome = _several(servers, plan)
        else:
            measure = _sweep if sweep_load else _capacity if capacity else _one
            outcome = measure(servers[0][0], plan, servers[0][1])
    if picture is not None:
        write_atomic(picture, outcome.draw("svg" if picture.suffix == ".svg" else "png"))
    answer(outcome.payload, as_json=as_json, text=outcome.show)
    if not outcome.yes:
        raise typer.Exit(EXIT_NO)


@dataclass(frozen=True)
class _Outcome:
    """What was measured: for machines, for people, as a picture, and whether the answer is yes."""

    payload: dict[str, Any]
    show: Callable[[Console], None]
    draw: Callable[[Literal["png", "svg"]], bytes]
    yes: bool


def _one(endpoint: Endpoint, plan: InferencePlan, environment: Fingerprint) -> _Outcome:
    from milton_assets.tiers.inference import measure_inference
    from milton_assets.tiers.inference.plots import latency_distribution

    result = measure_inference(endpoint, plan, on_progress=progress_on_stderr())
    payload = to_json(result, environment)
    return _Outcome(
        payload,
        show=lambda console: _draw(console, result, payload),
        draw=lambda picture: latency_distribution({endpoint.model: result.samples}, picture=picture),
        yes=bool(result.metric("success_rate").value),
    )


def _sweep(endpoint: Endpoint, plan: InferencePlan, environment: Fingerprint) -> _Outcome:
    from milton_assets.tiers.inference.sweep import sweep

    swept = sweep(endpoint, plan, on_progress=progress_on_stderr())
    return _loads(endpoint, swept.points, {"stop_reason": swept.stop_reason}, environment)


def _capacity(endpoint: Endpoint, plan: InferencePlan, environment: Fingerprint) -> _Outcome:
    from milton_assets.tiers.inference import OpenLoad
    from milton_assets.tiers.inference.sweep import find_capacity

    start_per_s = plan.load.rate_per_s if isinstance(plan.load, OpenLoad) else 1.0
    found = find_capacity(endpoint, plan, start_per_s=start_per_s, on_progress=progress_on_stderr())
    told = {
        "capacity_per_s": {"low": found.low, "high": found.high},
        "share": found.share,
        "undecided_per_s": list(found.undecided),
        "stop_reason": found.stop_reason,
    }
    return _loads(endpoint, found.points, told, environment)


def _loads(endpoint: Endpoint, points: Sequence[LoadPoint], told: dict[str, Any], environment: Fingerprint) -> _Outcome:
    from milton_assets.tiers.inference import DEFINITIONS_VERSION
    from milton_assets.tiers.inference.plots import throughput_against_latency

    columns = ("throughput", "ttft", "e2e", "success_rate", "slo_share", "goodput")

    def show(console: Console) -> None:
        table = Table("load", "output tokens/s", "ttft median, ms", "e2e median, ms", "success", "within SLO")
        for point in points:
            table.add_row(point.label, *(_cell(getattr(point, name)) for name in columns[:5]))
        console.print(table)
        for name, value in told.items():
            console.print(f"{name}: {value}")

    payload = {
        "definitions_version": DEFINITIONS_VERSION,
        **told,
        "loads": [
            {"load": point.load.model_dump()}
            | {getattr(point, name).name: getattr(point, name).model_dump(mode="json") for name in columns}
            for point in points
        ],
        "fingerprint": environment.model_dump(mode="json"),
    }
    return _Outcome(
        payload,
        show,
        draw=lambda picture: throughput_against_latency({endpoint.model: points}, picture=picture),
        yes=any(point.success_rate.value for point in points),
    )


def _several(servers: Sequence[tuple[Endpoint, Fingerprint]], plan: InferencePlan) -> _Outcome:
    from milton_assets.tiers.inference import measure_interleaved
    from milton_assets.tiers.inference.beside import ratios
    from milton_assets.tiers.inference.plots import latency_distribution

    endpoints = [endpoint for endpoint, _ in servers]
    names = [f"{endpoint.model} at {endpoint.base_url}" for endpoint in endpoints]
    if len(set(names)) < len(names):
        raise typer.BadParameter("a server is named twice", param_hint="--against")
    measured = measure_interleaved(endpoints, plan, on_progress=progress_on_stderr())
    results = dict(zip(names, measured, strict=True))
    payloads = {
        name: to_json(result, environment)
        for (name, result), (_, environment) in zip(results.items(), servers, strict=True)
    }
    in_turn = {name: ratios(result, measured[0]) for name, result in list(results.items())[1:]}
    told = {name: {figure: asdict(ratio) for figure, ratio in found.items()} for name, found in in_turn.items()}
    return _Outcome(
        {"servers": payloads, "in_turn": told},
        show=lambda console: _draw_side_by_side(console, results, payloads, in_turn),
        draw=lambda picture: latency_distribution({n: r.samples for n, r in results.items()}, picture=picture),
        yes=all(result.metric("success_rate").value for result in measured),
    )


def _objective(limits: Sequence[str]) -> SLO:
    from milton_assets.vocabulary.errors import BadInput
    from milton_assets.vocabulary.slo import SLO

    try:
        return SLO.parse(",".join(limits), "--slo")
    except BadInput as error:
        raise typer.BadParameter(str(error), param_hint="--slo") from error


def _place(text: str, model: str) -> tuple[str, str]:
    """The model and the address of `[MODEL=]URL`. A model's name may hold anything but the start of an address."""
    name, found, rest = text.rpartition("=http")
    return (name, f"http{rest}") if found else (model, text)


def _plan(settings: Mapping[str, Any]) -> InferencePlan:
    from pydantic import ValidationError

    from milton_assets.tiers.inference import InferencePlan

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
        "error_examples": told["error_examples"],
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
    counted = payload["provenance"]["tokens_counted_by"]
    because = f" ({counted['because']})" if counted["because"] else ""
    console.print(f"tokens counted by: {counted['what']}{because}", markup=False)
    show_error_examples(console, payload["error_examples"])
    console.print(f"{payload['rounds']} round(s), stopped: {payload['stop_reason']}")
    for reason in payload["invalid_because"]:
        console.print(f"[yellow]invalid[/yellow] {reason}")


def _draw_side_by_side(
    console: Console,
    results: Mapping[str, TierResult],
    payloads: Mapping[str, Mapping[str, Any]],
    in_turn: Mapping[str, Mapping[str, Ratio]],
) -> None:
    """Each headline figure of every server, and what the others' is as a multiple of the first one's: of the whole, and
    of the rounds in turn."""
    numbers = {name: str(number) for number, name in enumerate(results, start=1)}
    table = Table("", *numbers.values(), *(f"{number} / 1" for number in list(numbers.values())[1:]))
    for figure in (*(f"{name}.median" for name in DISTRIBUTIONS), *SYSTEM):
        metrics = [result.metric(figure) for result in results.values()]
        if any(metric.value is not None for metric in metrics):
            shown = (f"{_cell(metric)}\n{_span(metric)}".rstrip() for metric in metrics)
            table.add_row(figure, *shown, *(_ratio(metric, metrics[0]) for metric in metrics[1:]))
    for name, number in numbers.items():
        console.print(f"{number}: {name}", markup=False, soft_wrap=True)
    console.print(table)
    console.print("apart: the 95 % intervals do not overlap; together: they do")
    for name, found in in_turn.items():
        for figure, ratio in found.items():
            span = f"{ratio.low:.3f} … {ratio.high:.3f}"
            console.print(f"{figure} in {ratio.rounds} rounds in turn, {numbers[name]} / 1: {ratio.value:.3f} ({span})")
    for name, payload in payloads.items():
        errors = ", ".join(f"{count} {kind}" for kind, count in payload["errors"].items()) or "none"
        console.print(f"{numbers[name]}: {payload['requests']} requests, errors: {errors}", markup=False)
        show_error_examples(console, payload["error_examples"])
        for reason in payload["invalid_because"]:
            console.print(f"[yellow]invalid[/yellow] {numbers[name]}: {reason}")


def _ratio(metric: Metric, first: Metric) -> str:
    if metric.value is None or not first.value:
        return ""
    ratio = f"{metric.value / first.value:.3f}"
    if metric.interval is None or first.interval is None:
        return ratio
    overlap = metric.interval.low <= first.interval.high and first.interval.low <= metric.interval.high
    return f"{ratio}\n{'together' if overlap else 'apart'}"


def _cell(metric: Metric) -> str:
    if metric.value is None:
        return metric.status.value
    return f"{metric.value:.2f}" if metric.valid else f"[yellow]{metric.value:.2f}?[/yellow]"


def _span(metric: Metric) -> str:
    return f"{metric.interval.low:.2f} … {metric.interval.high:.2f}" if metric.interval else ""
