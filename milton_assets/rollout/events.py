"""What happens in a rollout: the records of its journal, as nouns.

What belongs here: the records. What does not: which may follow which (`states`), and how they are kept (`journal`).

Whatever the controller is about to do to a device it says first (`Began`, `GoingBack`), with the id of the attempt, so
that a controller that died in between asks the device how that attempt ended.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from milton_assets.edge.deployment.ids import DeploymentId
from milton_assets.rollout.plan import At, Member, Plan
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.keys import Slug

Reason = Annotated[str, Field(min_length=1, max_length=2000)]
_REASON_CHARACTERS = 1999


def reason_of(text: str) -> str:
    """`text` as a reason: never empty, never too long for a record."""
    text = text.strip() or "no reason was given"
    return text if len(text) <= _REASON_CHARACTERS else text[:_REASON_CHARACTERS] + "…"


class End(StrEnum):
    """How an attempt on a device ended, by the device's own journal.

    `STOOD`: committed after its whole health window, and in service. `WENT_BACK`: activated and undone. `FAILED`: ended
    before it changed what is served. `NOT_AS_SAID`: the device's answer and its journal do not agree. `SILENT`: no
    answer within the deadline, so nobody knows what it serves.
    """

    STOOD = "stood"
    WENT_BACK = "went_back"
    FAILED = "failed"
    NOT_AS_SAID = "not_as_said"
    SILENT = "silent"


class Planned(At):
    """The rollout was planned."""

    kind: Literal["planned"] = "planned"
    actor: str = Field(min_length=1)
    plan: Plan


class Started(At):
    """The rollout started; its first wave is open."""

    kind: Literal["started"] = "started"
    actor: str = Field(min_length=1)


class Joined(At):
    """A device was named after the rollout was planned."""

    kind: Literal["joined"] = "joined"
    member: Member


class Offline(At):
    """A device was not reached, for the first time since it last answered."""

    kind: Literal["offline"] = "offline"
    device: Slug
    reason: Reason


class GivenUp(At):
    """A device was not reached within its deadline; nothing was changed there."""

    kind: Literal["given_up"] = "given_up"
    device: Slug
    reason: Reason


class HadIt(At):
    """A device served the release before the rollout came to it."""

    kind: Literal["had_it"] = "had_it"
    device: Slug


class Unfit(At):
    """A device answered and cannot be changed; nothing was changed there."""

    kind: Literal["unfit"] = "unfit"
    device: Slug
    reason: Reason


class Began(At):
    """A device is about to be sent the release, under this attempt's id. `before` is what it serves until then."""

    kind: Literal["began"] = "began"
    device: Slug
    deployment: DeploymentId
    before: Sha256 | None


class Ended(At):
    """The attempt on a device ended. `serving` is what it serves now, None for nothing and where that is unknown."""

    kind: Literal["ended"] = "ended"
    device: Slug
    deployment: DeploymentId
    end: End
    reason: Reason
    serving: Sha256 | None = None


class WaveOpened(At):
    """The next wave is open. `actor` is who opened it where the evidence did not."""

    kind: Literal["wave_opened"] = "wave_opened"
    wave: int = Field(ge=1)
    reason: Reason
    actor: str | None = None


class Paused(At):
    """No device begins any more, until the rollout is resumed. `actor` is None where the rollout paused by itself."""

    kind: Literal["paused"] = "paused"
    reason: Reason
    actor: str | None = None


class Resumed(At):
    """The rollout goes on."""

    kind: Literal["resumed"] = "resumed"
    actor: str = Field(min_length=1)


class Stopped(At):
    """The evidence says that the failure rate is not tolerable; no device begins any more."""

    kind: Literal["stopped"] = "stopped"
    reason: Reason


class Aborted(At):
    """Every device that changed is to go back to where it was. `actor` is None where the plan asks for it."""

    kind: Literal["aborted"] = "aborted"
    reason: Reason
    actor: str | None = None


class GoingBack(At):
    """A device is about to be told to go back, under this attempt's id."""

    kind: Literal["going_back"] = "going_back"
    device: Slug
    deployment: DeploymentId


class WentBack(At):
    """A device does not serve the release any more: it went back, or did not have it."""

    kind: Literal["went_back"] = "went_back"
    device: Slug
    reason: Reason
    serving: Sha256 | None


class NotBack(At):
    """A device could not be taken back: a person has to look at it."""

    kind: Literal["not_back"] = "not_back"
    device: Slug
    reason: Reason


class Finished(At):
    """Every device's end is known."""

    kind: Literal["finished"] = "finished"


Event = (
    Planned
    | Started
    | Joined
    | Offline
    | GivenUp
    | HadIt
    | Unfit
    | Began
    | Ended
    | WaveOpened
    | Paused
    | Resumed
    | Stopped
    | Aborted
    | GoingBack
    | WentBack
    | NotBack
    | Finished
)
EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])
