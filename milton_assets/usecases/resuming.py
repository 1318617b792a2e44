"""When an interrupted campaign is gone on with: while everything that its measurements depend on is as it was.

What belongs here: collecting those conditions, and the rule. What does not: the record (`vocabulary.campaign`), and
going on (`milton_assets.conductor`). docs/adr/0130 says why the rule is this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from milton_assets import __version__
from milton_assets.vocabulary.campaign import Conditions, UnfinishedCampaign
from milton_assets.vocabulary.registry import RegistryEntry
from resources.campaign import Campaign
from resources.hardware import host_fingerprint
from resources.model_server import ModelServerResource

RESUMED_WITHIN = timedelta(hours=24)
"""How old a campaign may be: timings of one campaign are compared with each other, and machines change by the day."""

NOT_MEASURED_BY = frozenset(
    {
        "state_root",
        "registry_uri",
        "profile_set",  # what was chosen counts, set or not
        "policy_set",
        "artifact",
        "target_paths",
        "target_classes",
        "device_classes",
        "class_rollouts",
        "bundle_expires_days",
        "dry_run",
        "reuse_answers",
        "allowed_contaminated",
        "anchors_let_go",
        "log_level",
    }
)
"""Settings of a campaign on which no measurement depends: they may change before the campaign is gone on with."""


def conditions_of(
    entries: Sequence[RegistryEntry],
    code_versions: Mapping[str, str],
    goldens: Mapping[str, str],
    campaign: Campaign,
    model_server: ModelServerResource,
) -> Conditions:
    """What measuring these entries by these tiers (name to code version) depends on, as it is now."""
    settings = {name: value for name, value in _plain(campaign).items() if name not in NOT_MEASURED_BY}
    # Where a reference lies counts, and not only its name: another device has other speeds.
    settings["class_references"] = {
        name: [target, campaign.target_paths.get(target)] for name, target in campaign.class_references.items()
    }
    return Conditions(
        candidates={entry.version: entry.content_sha256 for entry in entries},
        tiers={str(name): version for name, version in code_versions.items()},
        goldens=dict(goldens),
        settings={"profile": campaign.profile.value, **settings},
        server={"is": model_server.describe(), **_plain(model_server)},
        host={"milton": __version__, **host_fingerprint().model_dump(mode="json")},
    )


def why_not_resumed(
    left: UnfinishedCampaign | None, conditions: Conditions, now: datetime, *, wanted: bool
) -> list[str]:
    """Why the campaign that was left unfinished is not gone on with; empty when it is, or when there is none."""
    if left is None:
        return []
    if not wanted:
        return ["a new campaign was asked for"]
    if now - left.began_at > RESUMED_WITHIN:
        return [
            f"it began {left.began_at:%Y-%m-%d %H:%M} UTC, more than {RESUMED_WITHIN.total_seconds() / 3600:g} h ago"
        ]
    return left.conditions.differences(conditions)


def _plain(resource: Campaign | ModelServerResource) -> dict[str, Any]:
    dumped: dict[str, Any] = resource.model_dump(mode="json")
    return dumped
