"""What each target of a fleet told last, from the copies that the state folder keeps: nobody is asked.

What belongs here: one row a target. What does not: asking devices (`milton_assets.fleet`), and printing (`cli.fleet`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from milton_assets.edge.deployment import Outcome
from milton_assets.fleet.targets import Targets
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.keys import Slug


class LastTold(BaseModel):
    """What a target serves by what it told last. `model_version` is that of the attempt that brought the release;
    `last` is how its latest attempt ended, and `reason` why it did not stand."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    target: Slug
    device_class: str = Field(serialization_alias="class")
    serves: Sha256 | None
    model_version: str | None
    last: Outcome | None
    reason: str | None
    heard_at: AwareDatetime | None


def last_told(targets: Targets) -> Iterator[LastTold]:
    """A row for every target that is known here, by name."""
    for name in targets.names():
        told = targets.mirrored(name)
        last = told[-1] if told else None
        serving = last.now_serving if last else None
        brought = next((one for one in reversed(told) if one.release == serving), None)
        heard_at: datetime | None = last.finished_at if last else None
        yield LastTold(
            target=name,
            device_class=targets.device_class(name),
            serves=serving,
            model_version=brought.model_version if brought else None,
            last=last.outcome if last else None,
            reason=last.reason if last else None,
            heard_at=heard_at,
        )
