"""Links from one page of the web UI to another.

What belongs here: their addresses. What does not: which page has them.
"""

from typing import Any

from dagster import AssetExecutionContext, MetadataValue, UrlMetadataValue

from milton_assets.assets.evidence import CAMPAIGN_TAG, CONDUCTED_TAG


def page_of(asset: str, partition: str) -> UrlMetadataValue:
    """The page of that asset's partition."""
    return MetadataValue.url(f"/assets/{asset}?view=partitions&partition={partition}")


def runs_of_campaign(campaign: str) -> UrlMetadataValue:
    """The list of every run of that campaign."""
    return MetadataValue.url(f"/runs?q[]=tag:{CAMPAIGN_TAG}={campaign}")


def its_campaign(context: AssetExecutionContext) -> dict[str, MetadataValue[Any]]:
    """To the campaign that asked for the run: its conductor's page, or all its runs where the daemon asked."""
    tags = context.run.tags
    if conductor := tags.get(CONDUCTED_TAG):
        return {"campaign": MetadataValue.dagster_run(conductor)}
    return {"campaign": runs_of_campaign(tags[CAMPAIGN_TAG])} if CAMPAIGN_TAG in tags else {}
