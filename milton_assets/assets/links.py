"""Links from one page of the web UI to another.

What belongs here: their addresses. What does not: which page has them.
"""

from dagster import MetadataValue, UrlMetadataValue


def page_of(asset: str, partition: str) -> UrlMetadataValue:
    """The page of that asset's partition."""
    return MetadataValue.url(f"/assets/{asset}?view=partitions&partition={partition}")
