"""Links from one page of the web UI to another.

What belongs here: their addresses. What does not: which page has them.
"""

from dagster import MetadataValue, UrlMetadataValue

from milton_assets.assets.evidence import CAMPAIGN_TAG


def page_of(asset: str, partition: str) -> UrlMetadataValue:
    """The page of that asset's partition."""
    return MetadataValue.url(f"/assets/{asset}?view=partitions&partition={partition}")


def runs_of_campaign(campaign: str) -> UrlMetadataValue:
    """The list of every run of that campaign."""
    return MetadataValue.url(f"/runs?q[]=tag:{CAMPAIGN_TAG}={campaign}")
