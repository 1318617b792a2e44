"""The dry run: what a campaign would measure, with every metric `skipped`, and nothing written anywhere.

What belongs here: saying so. What does not: measuring, and keeping assets from it (`milton_assets.assets.guards`).
"""

from __future__ import annotations

from rich.console import Console

from milton_assets.vocabulary.registry import Registry
from milton_assets.vocabulary.terminal import printable
from milton_assets.vocabulary.tier_spec import Tiers
from resources.campaign import Campaign

WHY = "dry run"


def print_dry_run(run_id: str, current: Registry, campaign: Campaign, tiers: Tiers, console: Console) -> None:
    """Every candidate, every metric, and why none has a value."""
    console.print(f"{run_id}: {WHY}, profile {campaign.profile}, policy {campaign.policy}", markup=False)
    for entry in current.candidates():
        artefacts = ", ".join(f"{a.kind} {a.size_bytes / 1e6:.0f} MB" for a in entry.artefacts)
        console.print(f"\n{entry.version}  {printable(entry.base_model)}  {artefacts}", markup=False)
        for spec in tiers.values():
            for metric in spec.skipped(WHY).metrics:
                console.print(f"  {spec.name:<10} {metric.name:<28} {metric.status} ({metric.why})", markup=False)
    for quarantined in current.quarantined:
        why = printable(f"{quarantined.version}  quarantined: {quarantined.reason}")
        console.print(f"\n{why}", soft_wrap=True, markup=False)
    console.print("\nno_verdict: a dry run decides nothing, bundles nothing and deploys nothing.")
