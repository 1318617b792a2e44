"""How long each tier took with each model, remembered from one campaign to the next.

    durations = Durations.read(state.durations, profile="full")
    durations.learn("reasoning", "v1", 812.4)

What belongs here: reading and keeping these figures. What does not: estimating what is left of a campaign (`progress`).

They are a convenience: a file that does not read is begun anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from milton_assets.vocabulary.files import write_atomic

_Kept = dict[str, dict[str, dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]]]
_KEPT = TypeAdapter(_Kept)


@dataclass
class Durations:
    """Seconds by profile, tier and model version. Without a `path` they are forgotten with the process."""

    path: Path | None = None
    profile: str = ""
    _kept: _Kept = field(default_factory=dict)
    _before: _Kept = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, profile: str) -> Durations:
        """What is kept at `path`, which need not be there."""
        try:
            raw = path.read_bytes()
            return cls(path, profile, _KEPT.validate_json(raw), _KEPT.validate_json(raw))
        except (FileNotFoundError, ValidationError):
            return cls(path, profile)

    def under(self, profile: str) -> Durations:
        """What was kept of another profile."""
        return replace(self, profile=profile)

    def before(self, tier: str, version: str) -> float | None:
        """Seconds that the tier took with that model before this campaign; None where it never ran here."""
        return self._before.get(self.profile, {}).get(tier, {}).get(version)

    def usual(self, tier: str) -> float | None:
        """Seconds that it took before on average over all models; None where it never ran here."""
        known = self._before.get(self.profile, {}).get(tier, {})
        return sum(known.values()) / len(known) if known else None

    def learn(self, tier: str, version: str, seconds: float) -> None:
        """Remember what it took now."""
        self._kept.setdefault(self.profile, {}).setdefault(tier, {})[version] = round(seconds, 1)
        if self.path is not None:
            write_atomic(self.path, _KEPT.dump_json(self._kept, indent=1))
