"""The dry run: what a campaign would measure, with every metric `skipped`, and nothing written anywhere.

What belongs here: saying so. What does not: measuring, and keeping assets from it (`milton_assets.assets.guards`).
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from milton_assets.vocabulary.registry import Registry
from milton_assets.vocabulary.terminal import printable
from milton_assets.vocabulary.tier_spec import Tiers
from resources.campaign import Campaign

WHY = "dry run"
MOST_SHOWN = 50
"""Of more entries than that, it is said how many there are: `milton registry list` has them all."""


def print_dry_run(
    run_id: str,
    current: Registry,
    campaign: Campaign,
    tiers: Tiers,
    console: Console,
    anchors: Iterable[str] = (),
) -> None:
    """Every metric, why none has a value, and the candidates that it would be measured of; `anchors` are sentences on
    those that may be measured besides."""
    console.print(f"{run_id}: {WHY}, profile {campaign.profile}, policy {campaign.policy}\n", markup=False)
    for spec in tiers.values():
        for metric in spec.skipped(WHY).metrics:
            console.print(f"  {spec.name:<10} {metric.name:<28} {metric.status} ({metric.why})", markup=False)
    candidates = current.candidates()
    console.print(f"\nof {len(candidates):,} candidates:", markup=False)
    for entry in candidates[:MOST_SHOWN]:
        artefacts = ", ".join(f"{a.kind} {a.size_bytes / 1e6:.0f} MB" for a in entry.artefacts)
        console.print(f"  {entry.version}  {printable(entry.base_model)}  {artefacts}", soft_wrap=True, markup=False)
    _say_how_many_more(len(candidates), console)
    for sentence in anchors:
        console.print(f"  {printable(sentence)}", soft_wrap=True, markup=False)
    for quarantined in current.quarantined[:MOST_SHOWN]:
        why = printable(f"{quarantined.version}  quarantined: {quarantined.reason}")
        console.print(f"\n{why}", soft_wrap=True, markup=False)
    _say_how_many_more(len(current.quarantined), console)
    console.print("\nno_verdict: a dry run decides nothing, bundles nothing and deploys nothing.")


def _say_how_many_more(count: int, console: Console) -> None:
    if count > MOST_SHOWN:
        console.print(f"  and {count - MOST_SHOWN:,} more", markup=False)
