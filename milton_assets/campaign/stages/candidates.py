"""The stage that measures the candidates on this machine, or on the workers of its instance.

What belongs here: what of a candidate is left to measure, and that one bad model fails alone. What does not: what is
measured on reference devices (`milton_assets.campaign.stages.on_classes`).
"""

from __future__ import annotations

from milton_assets.assets.evidence import CANDIDATE_TAG, VARIANTS_TAG
from milton_assets.campaign.children import Child, followed, launched, run_child, wait_for_accelerator
from milton_assets.campaign.under_way import UnderWay
from milton_assets.jobs import BENCHMARK_MODEL
from milton_assets.partitions import MODEL_VERSIONS
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.vocabulary.tier import asset_of
from resources.dagster_private import launches_elsewhere
from resources.evidence_log import REGISTRY_ENTRY_ASSET, why_last_run_failed


def measure_candidates(campaign: UnderWay) -> None:
    """Measure what is not measured yet: model by model here, or all at once where there are workers."""
    sent: list[tuple[Child, str]] = []
    for number, version in enumerate(campaign.candidates, 1):
        place = f"{number}/{len(campaign.candidates)}"
        measured = campaign.measured(version)
        missing = [tier for tier in campaign.tiers if tier not in measured]
        if not missing and why_last_run_failed(campaign.instance, version) is None:
            campaign.say(f"model {place} {version}: measured before the interruption")
            continue
        whole = len(missing) == len(installed_tiers())
        assets = [] if whole else [REGISTRY_ENTRY_ASSET, *(asset_of(tier) for tier in missing)]
        tags = {CANDIDATE_TAG: place, VARIANTS_TAG: campaign.record.variants_seed}
        wanted = Child(BENCHMARK_MODEL, version, MODEL_VERSIONS, tags=tags, assets=assets)
        if launches_elsewhere(campaign.instance):
            sent.append((wanted, launched(campaign, wanted)))
            continue
        wait_for_accelerator(campaign)
        _say_if_failed(campaign, wanted, succeeded=run_child(campaign, wanted))
    for wanted, run_id in sent:
        _say_if_failed(campaign, wanted, succeeded=followed(campaign, wanted, run_id))


def _say_if_failed(campaign: UnderWay, wanted: Child, *, succeeded: bool) -> None:
    if not succeeded:
        campaign.say(f"model {wanted.tags[CANDIDATE_TAG]} {wanted.partition}: failed; the others go on")
