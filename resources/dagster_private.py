"""What Dagster keeps private and we need all the same: the one module that reaches into it.

What belongs here: names from `dagster._core`, each with why no public one does. What does not: anything Dagster offers.
"""

from __future__ import annotations

from dagster._core.definitions.data_version import DATA_VERSION_TAG

__all__ = ["DATA_VERSION_TAG"]
# The tag under which an event carries its data version: an `AssetMaterialization` that we make or read by hand has no
# other place for it, and no public name says how the tag is called.
