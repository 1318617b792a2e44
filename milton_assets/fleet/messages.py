"""What a device's agent answers beyond the nouns of `Target`: who it is, what it has, how an attempt stands.

What belongs here: these answers as validated nouns, and reading an answer as one. What does not: frames (`wire`), and
asking for them (`asking`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from milton_assets.edge.deployment import Deployment
from milton_assets.fleet.wire import ProtocolViolated
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.keys import Slug

T = TypeVar("T")
Noun = TypeVar("Noun", bound=BaseModel)


def valid(read: Callable[[], T], what: str) -> T:
    """What `read` makes of a device's answer, which `what` names. Raises `ProtocolViolated` for what does not hold."""
    try:
        return read()
    except ValidationError as error:
        first = error.errors()[0]
        raise ProtocolViolated(
            f"the device's {what} does not hold: {'.'.join(map(str, first['loc']))}: {first['msg']:.300}",
            expected="what an agent of this protocol answers",
            remedy="`milton target add` installs this milton's agent there",
        ) from None


def answered(noun: type[Noun], answer: Any) -> Noun:
    """A device's answer as that noun. Raises `ProtocolViolated` for what does not hold."""
    return valid(lambda: noun.model_validate(answer), noun.__name__)


class AgentSelf(BaseModel):
    """Who answers: the agent's release, the target it serves, and its folder on the device."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: str = Field(max_length=100)
    target: Slug
    folder: str = Field(max_length=4096)


class Offered(BaseModel):
    """What the device has of an offered release: for each listed file the bytes that are there. `serving` is the
    release in service; `delta_bytes` how much of the named delta came."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: Sha256
    serving: Sha256 | None
    have: dict[str, int]
    delta_bytes: int = Field(default=0, ge=0)


class Standing(BaseModel):
    """How an attempt stands. `wants_confirmation` is whether its caller has to come back now; `result` its entry or its
    error, as `telling` tells it, when it is done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Literal["running", "done", "unknown"]
    step: str = ""
    wants_confirmation: bool = False
    entry: Deployment | None = None
    error: dict[str, Any] | None = None
