"""What a device's agent answers beyond the nouns of `Target`: who it is, what it has, how an attempt stands.

What belongs here: these answers as validated nouns. What does not: frames (`wire`), and asking for them (`ssh`).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from milton_assets.edge.deployment import Deployment
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.keys import Slug


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
