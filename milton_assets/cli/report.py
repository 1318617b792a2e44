"""`milton report`: one page, or one text, about a campaign, to hand to somebody who was not there.

What belongs here: the verb's arguments, and where the page is written. What does not: gathering
(`milton_assets.usecases.reporting`) and drawing (`milton_assets.report`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from milton_assets.cli.common import JsonOption, answer, current_settings
from milton_assets.vocabulary.errors import BadInput

if TYPE_CHECKING:
    from milton_assets.selection.summary import RunSummary
    from milton_assets.usecases.reporting import Sources


class Format(StrEnum):
    """What the report is written as."""

    HTML = "html"
    MD = "md"


def register(app: typer.Typer) -> None:
    """Add `report`."""
    app.command()(report)


def report(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The run, benchmark_YYYYMMDD_HHMMSS; by default the latest.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="NAME", help="The run that decided what this target serves now.")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option("--compare", metavar="A B", help="Two models of the run side by side, or run B against run A."),
    ] = None,
    trend: Annotated[
        str | None,
        typer.Option("--trend", metavar="FIGURE", help="A figure over all campaigns, with the deployments marked."),
    ] = None,
    rollout: Annotated[
        str | None, typer.Option("--rollout", metavar="NAME", help="A rollout over a fleet: waves, evidence, failures.")
    ] = None,
    kind: Annotated[Format, typer.Option("--format", help="A page, or Markdown for a pull request.")] = Format.HTML,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", dir_okay=False, help="Where to; - is standard output."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write one page on a campaign: what serves and why, figures, pictures, every case, and the evidence's digests.

    The page is one file that loads nothing and sends nothing. By default it is written to the current folder, named for
    the run; Markdown goes to standard output.

    Example: milton report --target local
    """
    from milton_assets.report.page import page, rollout_page, trend_page
    from milton_assets.report.text import pull_request, trend_table
    from milton_assets.usecases.reporting import gather, gather_trend, sources_of
    from milton_assets.vocabulary.digest import sha256_bytes
    from milton_assets.vocabulary.files import write_atomic

    if sum(one is not None for one in (run, target, trend, rollout)) > 1:
        raise typer.BadParameter("give a run, --target, --trend or --rollout, one of them")
    if rollout is not None and (compare is not None or kind is Format.MD):
        raise typer.BadParameter("a rollout's report is a page, and is compared with nothing")
    if trend is not None and compare is not None:
        raise typer.BadParameter("give --trend or --compare, not both")
    settings = current_settings()
    sources, now = sources_of(settings), datetime.now(UTC)
    if rollout is not None:
        from milton_assets.usecases.rollout_report import gather_rollout

        name = f"milton_rollout_{rollout}"
        text = rollout_page(gather_rollout(settings.state, rollout, now=now))
    elif trend is not None:
        name = "milton_trend"
        told = gather_trend(sources, trend, now=now)
        text = trend_page(told) if kind is Format.HTML else trend_table(told)
    else:
        runs = _two_runs(compare, sources)
        between = None if runs else compare
        summary = _summary(runs[1] if runs else run, target, sources)
        name = summary.run_id
        data = gather(sources, summary, now=now, between=between, since=runs[0] if runs else None)
        text = page(data, sources.tiers) if kind is Format.HTML else pull_request(data, sources.tiers)
    if kind is Format.MD and output is None and not as_json:
        output = Path("-")
    if output is not None and str(output) == "-":
        typer.echo(text, nl=False)
        return
    path = (output or Path(f"{name}.{kind}")).absolute()
    content = text.encode()
    write_atomic(path, content)
    payload = {"path": str(path), "sha256": sha256_bytes(content), "size_bytes": len(content)}
    answer(payload, as_json=as_json, text=lambda console: console.print(f"wrote {path}", markup=False, soft_wrap=True))


def _two_runs(compare: tuple[str, str] | None, sources: Sources) -> tuple[str, str] | None:
    """The two names of `--compare` where both are runs; one run and one model are refused."""
    from milton_assets.selection.summary import run_ids

    if compare is None:
        return None
    known = set(run_ids(sources.store.runs))
    are_runs = [name in known for name in compare]
    if any(are_runs) and not all(are_runs):
        raise BadInput(f"{compare[0]} and {compare[1]} are not of one kind", expected="two models, or two runs")
    return compare if all(are_runs) else None


def _summary(run: str | None, target: str | None, sources: Sources) -> RunSummary:
    from milton_assets.selection.summary import read_summary
    from milton_assets.usecases.reporting import serving_on

    if target is not None:
        serves = serving_on(sources.targets.named(target))
        if serves.run_id is None:
            raise BadInput(f"the target {target} serves nothing", remedy="`milton deploy` takes a bundle there")
        run = serves.run_id
    return read_summary(sources.store.runs, run)
