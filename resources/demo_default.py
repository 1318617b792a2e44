"""How thoroughly to measure and under which policy, where no setting says: looked up in the registry at each run.

    chosen = chosen_for(settings.profile, settings.policy, state.registry)
    chosen.profile, chosen.policy, chosen.notes

What belongs here: that rule and what must be said about it. What does not: what a profile or a policy is.

A registry that holds nothing but the demo's models is measured and decided under `smoke`, whose thresholds suit models
of that size. It is looked up at each run, and exported nowhere: the first model of one's own brings the real policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from milton_assets.settings import Profile
from resources.demo_models import is_demo
from resources.registries.json_file import registered

SMOKE_POLICY = "smoke"
REAL_POLICY = "seed"


@dataclass(frozen=True)
class Chosen:
    """A profile and a policy; `notes` are sentences for people about why it is these."""

    profile: Profile
    policy: str
    notes: tuple[str, ...] = ()


def chosen_for(profile: Profile | None, policy: str | None, registry: Path | None) -> Chosen:
    """What is set, else what suits the registry. `registry` is the registry file; None for one that is no file."""
    entries = registered(registry) if registry is not None and registry.exists() else {}
    own = sorted(version for version, entry in entries.items() if not is_demo(entry))
    demo = bool(entries) and not own
    chosen = Chosen(
        profile or (Profile.SMOKE if demo else Profile.FULL), policy or (SMOKE_POLICY if demo else REAL_POLICY)
    )
    return Chosen(chosen.profile, chosen.policy, tuple(_notes(chosen, profile, policy, demo=demo, own=own)))


def _notes(chosen: Chosen, profile: Profile | None, policy: str | None, *, demo: bool, own: list[str]) -> list[str]:
    unset = [name for name, value in (("profile", profile), ("policy", policy)) if value is None]
    if demo and unset:
        return [f"{' and '.join(unset)} smoke, because the registry holds only the demo's models"]
    if not own:
        return []
    some = ", ".join(own[:3]) + (f" and {len(own) - 3} more" if len(own) > 3 else "")
    notes = []
    if chosen.policy == SMOKE_POLICY:
        notes.append(
            f"WARNING: the policy is set to smoke, which shows nothing about fitness for use, and the registry holds "
            f"{some}; unset MILTON_POLICY, or set one that is meant for real models"
        )
    if chosen.profile is Profile.SMOKE:
        notes.append(
            f"WARNING: the profile is set to smoke, a first look, and the registry holds {some}; unset MILTON_PROFILE "
            f"to measure for a decision"
        )
    return notes
