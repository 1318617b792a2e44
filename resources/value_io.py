"""The IO manager of assets whose real thing lies elsewhere: a bundle's folder, a release on a device.

What belongs here: keeping such an asset's value, a small document, as JSON in Dagster's storage. What does not: the
thing itself. `path` on the asset's page is what the asset says of the thing, never the file that its value is kept in.
See https://docs.dagster.io/guides/build/io-managers
"""

from __future__ import annotations

import json
from typing import Any

from dagster import InitResourceContext, InputContext, OutputContext, UPathIOManager, io_manager
from upath import UPath

PATH = "path"
"""Under which an asset says where the real thing lies."""


class ValueIOManager(UPathIOManager):
    """Stores what JSON can hold, a file a partition."""

    extension = ".json"

    def dump_to_path(self, context: OutputContext, obj: Any, path: UPath) -> None:
        """Write the value."""
        path.write_text(json.dumps(obj, indent=2, ensure_ascii=False), encoding="utf-8")

    def load_from_path(self, context: InputContext, path: UPath) -> Any:
        """Read it back."""
        return json.loads(path.read_text(encoding="utf-8"))

    def get_metadata(self, context: OutputContext, obj: Any) -> dict[str, Any]:
        """Where the real thing lies, as its asset says: it stands instead of the path of the value's own file."""
        said = context.output_metadata
        return {PATH: said[PATH]} if PATH in said else {}


@io_manager(description="Keeps small values as JSON in Dagster's storage; what they describe lies elsewhere.")
def value_io_manager(context: InitResourceContext) -> ValueIOManager:
    """The manager of the instance's storage folder."""
    instance = context.instance
    if instance is None:
        raise TypeError("an IO manager is made for an instance")
    return ValueIOManager(base_path=UPath(instance.storage_directory()))
