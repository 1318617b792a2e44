"""A campaign that has not ended: what it set out to measure, under which conditions, so that it can be gone on with.

    left = UnfinishedCampaign.read(state.unfinished_campaign)
    reasons = left.conditions.differences(conditions)     # empty: what it measured still counts

What belongs here: the record, its file, and comparing conditions. What does not: what was measured, which the event log
and the evidence store know (`resources.evidence_log.measured_in`), and when a campaign is resumed
(`milton_assets.conductor`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.keys import RunId, Slug, VariantsSeed


class Conditions(BaseModel):
    """Everything that a campaign's measurements depend on. Two that are equal would measure the same.

    `candidates` maps each version to its content digest, `tiers` each tier to its code version, `goldens` each golden
    to its digest. `settings`, `server` and `host` are what measuring depends on of these, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: dict[Slug, Sha256]
    tiers: dict[str, str]
    goldens: dict[str, Sha256]
    settings: dict[str, Any]
    server: dict[str, Any]
    host: dict[str, Any]

    def differences(self, now: Conditions) -> list[str]:
        """What is otherwise `now`, a few words each."""
        found = []
        for part in type(self).model_fields:
            then, today = getattr(self, part), getattr(now, part)
            for name in sorted(then.keys() | today.keys()):
                if name not in today:
                    found.append(f"{part}: {name} is gone")
                elif name not in then:
                    found.append(f"{part}: {name} is new")
                elif then[name] != today[name]:
                    values = "" if part in _BY_DIGEST else f" ({then[name]!r} then, {today[name]!r} now)"
                    found.append(f"{part}: {name} changed{values}")
        return found


_BY_DIGEST = {"candidates", "tiers", "goldens"}
"""Parts whose values say nothing to a person."""


class UnfinishedCampaign(BaseModel):
    """One campaign, from its beginning until it has decided. `conductors` are the Dagster runs that led it.

    `variants_seed` draws its fresh variants: minted when it begins, so that nobody knows them before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: RunId
    began_at: AwareDatetime
    conditions: Conditions
    variants_seed: VariantsSeed
    conductors: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The campaign that `path` tells of; None when there is no such file. Raises `BadInput` for a damaged one."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise BadInput(
                f"{path} does not hold: {error.errors()[0]['msg']}",
                expected="the file as the interrupted campaign wrote it",
                remedy=f"remove {path}; the next campaign then starts anew",
            ) from error

    def write(self, path: Path) -> None:
        """Keep it at `path`, old or new and never half."""
        write_atomic(path, self.model_dump_json(indent=2) + "\n")

    def led_by(self, conductor: str) -> Self:
        """The same campaign, led by one Dagster run more."""
        return self.model_copy(update={"conductors": (*self.conductors, conductor)})
