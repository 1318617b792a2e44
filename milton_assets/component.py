"""The graph as a Dagster component: for a project of one's own, in which it stands beside other definitions.

    dg scaffold defs milton_assets.component.MiltonAutobench edge --state-dir /srv/milton

What belongs here: which milton.yaml the graph is made of, and writing both files. What does not: the settings. They
stay in milton.yaml, which the command line, the units and the devices read as well: a second place could disagree.
See https://docs.dagster.io/guides/build/components
"""

from __future__ import annotations

import os
from pathlib import Path

from dagster import (
    Component,
    ComponentLoadContext,
    Definitions,
    Model,
    Resolvable,
    Scaffolder,
    ScaffoldRequest,
    scaffold_with,
)
from dagster.components import scaffold_component
from pydantic import BaseModel, Field

from milton_assets.definitions import build_defs
from milton_assets.settings import SETTINGS_FILE, state_of_process
from milton_assets.settings.describe import template
from milton_assets.vocabulary.files import write_atomic

_STATE_DIR = "MILTON_STATE_DIR"


class MiltonScaffoldParams(BaseModel):
    """What `dg scaffold defs` may be told."""

    state_dir: str | None = Field(
        default=None,
        description="The state folder, in which milton.yaml lies; by default that of MILTON_STATE_DIR.",
    )


class MiltonScaffolder(Scaffolder[MiltonScaffoldParams]):
    """Writes defs.yaml, and a milton.yaml with every setting explained where there is none."""

    @classmethod
    def get_scaffold_params(cls) -> type[MiltonScaffoldParams]:
        """The parameters."""
        return MiltonScaffoldParams

    def scaffold(self, request: ScaffoldRequest[MiltonScaffoldParams]) -> None:
        """Write both files; a milton.yaml that is there stays as it is."""
        given = request.params.state_dir
        scaffold_component(request, {} if given is None else {"state_dir": given})
        root = state_of_process().root if given is None else _below(request.target_path, given)
        if not (root / SETTINGS_FILE).exists():
            write_atomic(root / SETTINGS_FILE, template())


@scaffold_with(MiltonScaffolder)
class MiltonAutobench(Component, Model, Resolvable):
    """Decides, on evidence, which registered language model serves on the edge, and takes it there safely.

    Its settings are in milton.yaml in the state folder; `dg check defs` names a line of it that does not hold, and
    `milton config check` looks further, at servers, keys and targets.
    """

    state_dir: str | None = Field(
        default=None,
        description="The state folder, in which milton.yaml lies: absolute, or counted from the folder of defs.yaml. "
        "By default that of the variable MILTON_STATE_DIR. The `milton` command goes by that variable alone.",
        examples=["/srv/milton"],
    )

    def build_defs(self, context: ComponentLoadContext) -> Definitions:
        """The whole graph of that milton.yaml. Raises `BadInput` with the line that does not hold."""
        if self.state_dir is None:
            return build_defs()
        return build_defs(environment={**os.environ, _STATE_DIR: str(_below(context.path, self.state_dir))})


def _below(folder: Path, path: str) -> Path:
    return (folder / Path(path).expanduser()).resolve()
