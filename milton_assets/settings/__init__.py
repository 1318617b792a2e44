"""The one settings root: whoever runs, measures, decides or deploys asks here how, and nowhere else.

    settings = load_settings()               # milton.yaml in the state folder, overridden by MILTON_… variables
    settings.policy, settings.server.slots, settings.targets["kit"].at

What belongs here: which settings there are (`model`), and reading them with the place that each came from (`reading`).
What does not: what is made of them (`milton_assets.usecases.compose`), and Dagster.
"""

from milton_assets.settings.model import (
    EdgeServerSettings,
    GoldenSet,
    LaunchSettings,
    LogLevel,
    Profile,
    Rerank,
    RolloutSettings,
    ServerSettings,
    Settings,
    SideModelSettings,
    TargetSettings,
)
from milton_assets.settings.reading import (
    SETTINGS_FILE,
    Origin,
    Reading,
    dagster_home,
    dagster_module,
    hand_to_process,
    load_settings,
    read_settings,
    state_of_process,
)

__all__ = [
    "SETTINGS_FILE",
    "EdgeServerSettings",
    "GoldenSet",
    "LaunchSettings",
    "LogLevel",
    "Origin",
    "Profile",
    "Reading",
    "Rerank",
    "RolloutSettings",
    "ServerSettings",
    "Settings",
    "SideModelSettings",
    "TargetSettings",
    "dagster_home",
    "dagster_module",
    "hand_to_process",
    "load_settings",
    "read_settings",
    "state_of_process",
]
