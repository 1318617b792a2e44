"""What a campaign says at its end: the decision card, where bundle and deployment lie, and what to type next.

What belongs here: the closing lines of the conductor. What does not: the card itself (`selection.card`).
"""

from __future__ import annotations

from rich.console import Console

from milton_assets import inference, reasoning, retrieval
from milton_assets.selection import RunSummary, card
from milton_assets.vocabulary.registry import Registry
from milton_assets.vocabulary.tier import Tier
from resources.campaign import Campaign

DRY_RUN = "dry run: nothing was measured"


def print_summary(summary: RunSummary, campaign: Campaign, console: Console | None = None) -> None:
    """The decision card, then what lies where and the next commands."""
    out = console or Console(highlight=False)
    out.print()
    card.render(summary.decision, out)
    out.print()
    for label, place in places(summary, campaign):
        out.print(f"[bold]{label:<12}[/bold]{place}", soft_wrap=True)
    out.print()
    out.print("[bold]next[/bold]", soft_wrap=True)
    for command, purpose in next_commands(summary):
        out.print(f"  {command:<44} {purpose}", soft_wrap=True)


def places(summary: RunSummary, campaign: Campaign) -> list[tuple[str, str]]:
    """Label and path of everything the run left behind."""
    rows = [("summary", str(campaign.state.runs / f"{summary.run_id}.json"))]
    if summary.bundle:
        rows.append(("bundle", str(summary.bundle["path"])))
    if summary.deployment:
        rows.append(("deployment", f"{summary.deployment['id']} on {summary.deployment['target']}"))
        rows.append(("active", str(summary.deployment["path"])))
    return rows


def next_commands(summary: RunSummary) -> list[tuple[str, str]]:
    """What somebody who has just seen the card would type."""
    commands = [("milton results", "this card again")]
    if summary.deployment:
        commands.insert(0, (f"milton trace {summary.deployment['id']}", "why this file is on that device"))
        commands.append((f"milton rollback --target {summary.deployment['target']}", "back to the release before"))
    commands.append(("make ui", "the graph and its lineage in the browser"))
    return commands


def print_dry_run(run_id: str, current: Registry, campaign: Campaign, console: Console | None = None) -> None:
    """What a campaign would measure: every metric of every candidate, skipped. Nothing is decided or deployed."""
    out = console or Console(highlight=False)
    out.print(f"[bold]{run_id}[/bold] {DRY_RUN}; profile {campaign.profile}, policy {campaign.policy}")
    for entry in current.candidates():
        artefacts = ", ".join(f"{a.kind} {a.size_bytes / 1e6:.0f} MB" for a in entry.artefacts)
        out.print(f"\n[bold]{entry.version}[/bold] {entry.base_model} ({artefacts})")
        for tier, metrics in METRICS.items():
            for name, unit in metrics:
                out.print(f"  {tier:<10} {name:<28} skipped [dim]{unit}[/dim]")
    for quarantined in current.quarantined:
        out.print(f"\n[yellow]{quarantined.version} quarantined[/yellow]: {quarantined.reason}", soft_wrap=True)
    out.print("\nverdict no_verdict: a dry run decides nothing, bundles nothing and deploys nothing.")


METRICS: dict[Tier, tuple[tuple[str, str], ...]] = {
    Tier.INFERENCE: inference.METRICS,
    Tier.REASONING: reasoning.METRICS,
    Tier.RETRIEVAL: retrieval.METRICS,
}
"""Name and unit of every metric, by tier."""
