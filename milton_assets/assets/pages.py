"""The campaign's page, kept by each stage that changes what it tells: decision, bundle, deployment; and telling it on.

What belongs here: wiring. What does not: what the page says (`milton_assets.report`), gathering it
(`milton_assets.usecases.reporting`), and what a tracking server is told (`milton_assets.usecases.tracking`). No
decision hangs on any of it: what fails is a warning.
"""

from datetime import UTC, datetime

from dagster import AssetExecutionContext, MetadataValue

from milton_assets.assets.evidence import CAMPAIGN_TAG
from milton_assets.fleet.targets import Targets
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.usecases.reporting import Sources, keep_page
from milton_assets.usecases.tracking import MlflowTracking, tell_mlflow
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.places import Place
from milton_assets.vocabulary.terminal import printable
from resources.campaign import Campaign
from resources.evidence_store import EvidenceStore
from resources.progress import meter


def kept_page(
    context: AssetExecutionContext, campaign: Campaign, store: EvidenceStore, targets: Targets, run_id: str
) -> Place | None:
    """The page's path; None, and a warning in the run's log, when it could not be made: no decision hangs on it."""
    sources = sources_from(campaign, store, targets)
    try:
        return keep_page(sources, run_id, now=datetime.now(UTC))
    except MiltonError as error:
        context.log.warning(f"the page on {run_id} was not made: {error}")
        return None


def told_elsewhere(
    context: AssetExecutionContext, campaign: Campaign, store: EvidenceStore, targets: Targets, run_id: str
) -> dict[str, MetadataValue]:
    """Tell the tracking server that is named, if one is, what is known of the run by now; a link to its page there.

    What it does not take is said in the run's log and on the terminal.
    """
    if (named := campaign.mlflow) is None:
        return {}
    shown = meter(context.run.tags.get(CAMPAIGN_TAG, context.run.run_id), (), 1)
    try:
        told = tell_mlflow(MlflowTracking.from_settings(named), sources_from(campaign, store, targets), run_id)
    except MiltonError as error:
        line = f"{run_id} was not told to MLflow: {error} `milton mlflow {run_id}` tries again."
        context.log.warning(line)
        shown.say(printable(line))
        return {}
    line = f"{run_id} and its {told.models} models: {told.address}"
    context.log.info(line)
    shown.say(printable(line))
    return {"mlflow": MetadataValue.url(told.address)}


def sources_from(campaign: Campaign, store: EvidenceStore, targets: Targets) -> Sources:
    """Where the parts of a campaign's page lie."""
    return Sources(campaign.state, store, installed_tiers(), campaign.goldens, targets)
