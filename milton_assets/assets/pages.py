"""The campaign's page, kept by each stage that changes what it tells: decision, bundle, deployment.

What belongs here: wiring. What does not: what the page says (`milton_assets.report`) and gathering it
(`milton_assets.usecases.reporting`).
"""

from datetime import UTC, datetime

from dagster import AssetExecutionContext

from milton_assets.fleet.targets import Targets
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.usecases.reporting import Sources, keep_page
from milton_assets.vocabulary.documents import Place
from milton_assets.vocabulary.errors import MiltonError
from resources.campaign import Campaign
from resources.evidence_store import EvidenceStore


def kept_page(
    context: AssetExecutionContext, campaign: Campaign, store: EvidenceStore, targets: Targets, run_id: str
) -> Place | None:
    """The page's path; None, and a warning in the run's log, when it could not be made: no decision hangs on it."""
    sources = Sources(campaign.state, store, installed_tiers(), campaign.goldens, targets)
    try:
        return keep_page(sources, run_id, now=datetime.now(UTC))
    except MiltonError as error:
        context.log.warning(f"the page on {run_id} was not made: {error}")
        return None
