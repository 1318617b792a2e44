"""What a campaign may be told at launch, and what it measures by that: which candidates, and by which tiers.

What belongs here: the op's configuration, and holding it against the registry, the tiers and the settings. What does
not: settings (`resources.campaign`), and what stands in the registry.
"""

from __future__ import annotations

from collections.abc import Sequence

from dagster import Config, DagsterInstance
from pydantic import Field

from milton_assets.selection.policy_file import shipped_policies
from milton_assets.settings import Profile
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.vocabulary.errors import BadInput, one_of
from milton_assets.vocabulary.registry import Registry, RegistryEntry
from milton_assets.vocabulary.terminal import printable
from resources.campaign import Campaign
from resources.dagster_private import launches_elsewhere


class AutobenchConfig(Config):
    """What a campaign may be told at launch. Resources take more, such as the server."""

    dry_run: bool = Field(
        default=False, description="Validate the registry and show what would be measured; measure nothing."
    )
    only: list[str] = Field(
        default_factory=list,
        description="Measure these model versions; empty takes every candidate. The decision is over all candidates, "
        "the others on what was measured of them last.",
    )
    tiers: list[str] = Field(
        default_factory=list,
        description="Measure by these tiers, as `milton bench --help` lists them; empty takes all.",
    )
    profile: Profile | None = Field(
        default=None, description="How thoroughly the tiers measure: full or smoke; null: as the settings have it."
    )
    policy: str | None = Field(
        default=None,
        description=f"Gates and weights: {', '.join(shipped_policies())}, or a YAML file's absolute path; null: as the "
        "settings have it.",
    )
    resume: bool = Field(
        default=True, description="Go on with an interrupted campaign, if nothing it depends on has changed since."
    )
    wait: bool = Field(
        default=False, description="Wait for another campaign that is running here, instead of refusing."
    )

    def over(self, settings: Campaign, instance: DagsterInstance) -> Campaign:
        """The settings with the profile and the policy of the launchpad. Raises `BadInput` where workers have their
        own."""
        if launches_elsewhere(instance) and (self.profile or self.policy):
            raise BadInput(
                "a profile or a policy is named for this run, and its children go to workers",
                expected="the same settings for the conductor and for every worker",
                remedy="set MILTON_PROFILE and MILTON_POLICY, or milton.yaml, on every host",
            )
        return settings.choosing(self.profile, self.policy)


def chosen_candidates(current: Registry, uri: str, only: Sequence[str]) -> list[RegistryEntry]:
    """The candidates that are called `only`, or all. Raises `BadInput` as `candidates_of`, and for one that is none."""
    candidates = candidates_of(current, uri)
    known = [entry.version for entry in candidates]
    if unknown := [version for version in only if version not in known]:
        reasons = [q.reason for q in current.quarantined if q.version in unknown]
        raise BadInput(
            f"{printable(', '.join(unknown))} is no candidate"
            + (f" (quarantined: {printable('; '.join(reasons))})" if reasons else ""),
            expected=one_of(known),
            remedy="`milton registry list` shows what is registered",
        )
    return [entry for entry in candidates if not only or entry.version in only]


def candidates_of(current: Registry, uri: str) -> tuple[RegistryEntry, ...]:
    """The candidates of the registry at `uri`. Raises `BadInput` with the next steps when there are none."""
    if found := current.candidates():
        return found
    quarantined = printable("; ".join(f"{q.version}: {q.reason}" for q in current.quarantined))
    raise BadInput(
        f"{printable(uri)} has no candidates" + (f" (quarantined: {quarantined})" if quarantined else ""),
        expected="at least one valid entry with status candidate",
        remedy="`milton registry add` registers a model, `milton demo` puts small real ones into an empty registry",
    )


def chosen_tiers(names: Sequence[str]) -> list[str]:
    """The installed tiers of these names, or all, in their order. Raises `BadInput` for a name that none has."""
    there = installed_tiers()
    if unknown := [name for name in names if name not in there]:
        raise BadInput(f"there is no tier {', '.join(unknown)}", expected=one_of(there))
    return [tier for tier in there if not names or tier in names]
