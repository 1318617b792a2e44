"""`milton results`: what a benchmark run came to. `milton decide`: the decision again, from its pinned evidence.

What belongs here: the two verbs' arguments and what they print. What does not: deciding and the card, which are
`milton_assets.selection`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from milton_assets.cli.common import JsonOption, answer, current_settings, say_no
from milton_assets.vocabulary.figure import counted

if TYPE_CHECKING:
    from rich.console import Console

    from milton_assets.selection.summary import RunSummary
    from milton_assets.settings import Settings
    from milton_assets.vocabulary.places import Place


def results(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="The run, benchmark_YYYYMMDD_HHMMSS; by default the latest.")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Also draw the run into DIR: intervals, Pareto front, latencies, throughput against latency (PNG).",
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--list", help="List the runs there are, newest last, and show none.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a run: candidates, metrics with statuses and intervals, gates, ranking, verdict.

    Exits 0 when a model was promoted, 1 when none was.

    Example: milton results benchmark_20260111_142500
    """
    from milton_assets.selection import card
    from milton_assets.selection.decision import Verdict
    from milton_assets.selection.outcome import print_outcome
    from milton_assets.selection.side_by_side import print_side_by_side
    from milton_assets.selection.summary import read_summary, summaries_beside
    from milton_assets.tiers.discovery import installed_tiers

    settings = current_settings()
    state, runs = settings.state, settings.runs
    if every:
        if run is not None or pictures is not None:
            raise typer.BadParameter("give --list alone")
        _list(runs, as_json=as_json)
        return
    summary = read_summary(runs, run)
    others = summaries_beside(runs, summary)

    def text(console: Console) -> None:
        print_outcome(summary, runs, state, console, installed_tiers())
        print_side_by_side(others, console)

    answer(
        summary.model_dump(mode="json"),
        as_json=as_json,
        text=text,
    )
    if pictures is not None:
        _write_pictures(summary, settings, pictures)
    if summary.decision.verdict is not Verdict.PROMOTE:
        raise say_no(f"{summary.run_id}: nothing was promoted ({card.outcome(summary.decision)})")


def decide(
    run: Annotated[str, typer.Option("--run", metavar="RUN", help="The run, benchmark_YYYYMMDD_HHMMSS.")],
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            metavar="FILE",
            help="A policy's YAML file, or a shipped one's name; by default the run's own policy.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take a run's decision again, from its pinned evidence.

    Under the run's own policy the answer must be the recorded one, byte for byte; if it is not, this fails. Under
    another policy it is a what-if. Nothing is written, bundled or deployed. `--json` prints canonical JSON. Exits 0
    when a model would be promoted, 1 when none would be or the evidence does not hold.

    Example: milton decide --run benchmark_20260111_142500 --policy anchored
    """
    from milton_assets.selection import card
    from milton_assets.selection.decision import Verdict
    from milton_assets.selection.policy_file import check_metrics, load_policy
    from milton_assets.selection.replay import decide_again
    from milton_assets.selection.summary import read_summary
    from milton_assets.tiers.discovery import installed_tiers
    from milton_assets.usecases.compose import evidence_store_of
    from milton_assets.vocabulary.errors import EvidenceMismatch
    from milton_assets.vocabulary.terminal import console

    settings = current_settings()
    summary = read_summary(settings.runs, run)
    recorded = summary.decision
    tiers = installed_tiers()
    chosen = recorded.policy if policy is None else check_metrics(load_policy(policy), tiers)
    again = decide_again(evidence_store_of(settings).read_bytes, summary, chosen, tiers)
    if as_json:
        typer.echo(again.to_json())
    else:
        card.render(again, console(), tiers)
    if chosen.sha256 != recorded.policy_sha256:
        typer.echo(
            f"a what-if under {chosen.name}; recorded is {card.outcome(recorded)}, this is {card.outcome(again)}",
            err=True,
        )
    elif again.to_json() == recorded.to_json():
        typer.echo(f"repeats the recorded decision byte for byte, SHA-256 {again.digest()}", err=True)
    else:
        raise EvidenceMismatch(
            f"deciding {run} again gives {again.digest()} ({card.outcome(again)}), "
            f"recorded is {recorded.digest()} ({card.outcome(recorded)})",
            expected="the same decision from the same evidence and policy",
            remedy="decide with the release that took the decision, and check who edited the run's summary",
        )
    if again.verdict is not Verdict.PROMOTE:
        raise say_no(f"{run}: nothing would be promoted ({card.outcome(again)})")


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(results)
    app.command()(decide)


def _list(runs: Place, *, as_json: bool) -> None:
    """A line a run: id, verdict and winner; a run whose summary another release wrote says so."""
    from milton_assets.selection.card import outcome
    from milton_assets.selection.summary import read_summary, run_ids
    from milton_assets.vocabulary.errors import BadInput

    unread = dict.fromkeys(("verdict", "winner", "outcome", "candidates"))
    found: list[dict[str, str | int | None]] = []
    for run_id in run_ids(runs):
        try:
            decision = read_summary(runs, run_id).decision
        except BadInput as error:
            found.append({"run_id": run_id, **unread, "problem": str(error)})
            continue
        told = {"run_id": run_id, "verdict": decision.verdict.value, "winner": decision.winner}
        found.append({**told, "outcome": outcome(decision), "candidates": len(decision.candidates), "problem": None})

    def text(console: Console) -> None:
        if not found:
            console.print("no benchmark run has ended yet")
        for row in found:
            console.print(f"{row['run_id']}  {_in_a_line(row)}", markup=False, soft_wrap=True)

    answer(found, as_json=as_json, text=text)


def _in_a_line(row: Mapping[str, str | int | None]) -> str:
    if row["problem"] is not None:
        return f"cannot be read: {row['problem']}"
    return f"{row['outcome']}, {counted(int(row['candidates'] or 0), 'candidate')}"


def _write_pictures(summary: RunSummary, settings: Settings, folder: Path) -> None:
    from milton_assets.selection import plots
    from milton_assets.selection.replay import read_pinned
    from milton_assets.tiers.discovery import installed_tiers
    from milton_assets.usecases.compose import evidence_store_of
    from milton_assets.usecases.pictures import tier_pictures
    from milton_assets.vocabulary.files import write_atomic

    measured = read_pinned(evidence_store_of(settings).read_bytes, summary.manifest)
    drawn = {"intervals": plots.intervals(summary.decision), "pareto": plots.pareto(summary.decision)}
    for name, png in (drawn | tier_pictures(installed_tiers(), measured)).items():
        path = folder / f"{name}.png"
        write_atomic(path, png)
        typer.echo(f"wrote {path}", err=True)
