"""The graph of a workplace as Dagster's command line would load it: from a module, by name.

What belongs here: `make`, which builds it from the environment. What does not: the workplace. The conductor needs this,
because an op knows its repository only when the job was loaded from one.
"""

from __future__ import annotations

import os

from dagster import Definitions

from milton_assets.definitions import build_defs
from tests.support.workplace import ScriptedModels

SERVER = "SCRIPTED_SERVER"


def make() -> Definitions:
    """`build_defs` with the models behind the server at `$SCRIPTED_SERVER`."""
    served = ScriptedModels(base_url=os.environ[SERVER])
    return build_defs(overrides={"model_server": served, "edge_runtime": served})
