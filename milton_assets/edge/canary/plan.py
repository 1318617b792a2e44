"""What a canary compares, how requests are split, and what is asked of the challenger.

What belongs here: the plan as a noun, and the draw of a request's arm. What does not: who is served
(`edge.serving.splitting`).

The draw is a keyed digest of the request's number, or of what a header says, under a seed that the plan records: it can
be repeated, and nobody who does not know the seed can choose an arm. With a header, its value keeps its arm for
`sticky_s`; then it is drawn anew. Without, each request is drawn for itself.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.format_version import of_this_version
from milton_assets.vocabulary.keys import Slug

CANARY_VERSION: Final = 2
MAX_REQUESTS = 200_000
"""A canary that has not been decided by then ends; so much is kept of it at most."""
_ID = re.compile(r"canary_[0-9]{8}_[0-9]{6}_[0-9]{3}_[0-9a-f]{6}")
_HEADER = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_DRAWN_BITS = 53


class Arm(StrEnum):
    """Which of the two a request is given to."""

    CHALLENGER = "challenger"
    INCUMBENT = "incumbent"


class Way(StrEnum):
    """How the two are compared: by users' requests, split between them; by recorded requests, asked of both; or by
    whole devices, of which this one serves one of the two."""

    SPLIT = "split"
    SHADOW = "shadow"
    WHOLE = "whole"


class Recording(BaseModel):
    """How much is recorded for a shadow, at most, and which patterns of users' texts are not: regular expressions,
    besides those of `edge.canary.redacting`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: int = Field(default=500, ge=10, le=10_000)
    size_bytes: int = Field(default=16 << 20, ge=1 << 10, le=256 << 20)
    redact: tuple[Annotated[str, Field(max_length=500)], ...] = Field(default=(), max_length=50)


class Margins(BaseModel):
    """What the challenger is held to.

    `failures` is the share of its requests that may fail at the server (a status of 500 and more, a cut) before it goes
    back whatever the incumbent does; `errors` how much larger than the incumbent's its share of errors may be to be
    promoted; `slower` how many times the incumbent's times its own may be; `longer` how many times longer, or shorter,
    its answers may be; `wrong` how much larger its share of wrong answers may be, of golden questions that one of the
    two answers rightly.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    failures: float = Field(default=0.05, gt=0, lt=0.5)
    errors: float = Field(default=0.02, gt=0, lt=0.5)
    slower: float = Field(default=1.2, ge=1, le=100)
    longer: float = Field(default=1.5, ge=1, le=100)
    wrong: float = Field(default=0.05, gt=0, lt=0.5)


def check_canary_id(text: str) -> str:
    """`text`, if it is a canary's id. Raises `BadInput`."""
    if not _ID.fullmatch(text):
        raise BadInput(f"the canary {text!r:.100}", expected="an id such as canary_20260111_142500_000_0a1b2c")
    return text


def _lower_header(text: str) -> str:
    if not _HEADER.fullmatch(text):
        raise ValueError(f"{text!r:.100} is no header's name in small letters")
    return text


CanaryId = Annotated[str, Field(pattern=_ID.pattern, max_length=33)]
HeaderName = Annotated[str, AfterValidator(_lower_header)]


class CanaryPlan(BaseModel):
    """One canary. `alpha` bounds the probability that a challenger that makes no difference is sent back, and the one
    that a challenger beyond a margin is promoted. `seed` is hexadecimal; `recording` is a shadow's; `goldens` is the
    digest of the golden questions to which answers are compared; `arm` is what a whole device serves in
    the comparison `fleet`; `assume_memory` says that whoever started it vouched for the memory."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: Literal[2] = CANARY_VERSION
    id: CanaryId
    target: Slug
    challenger: Sha256
    challenger_version: Slug
    challenger_manifest_sha256: Sha256
    incumbent: Sha256
    incumbent_version: Slug
    way: Way = Way.SPLIT
    recording: Recording | None = None
    goldens: Sha256 | None = None
    arm: Arm | None = None
    fleet: CanaryId | None = None
    share: float = Field(ge=0.01, le=0.9)
    seed: str = Field(pattern=r"[0-9a-f]{64}")
    sticky_header: HeaderName | None = None
    sticky_s: float = Field(default=3600.0, ge=1)
    margins: Margins = Margins()
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    assume_memory: bool = False
    max_requests: int = Field(default=MAX_REQUESTS, ge=1, le=MAX_REQUESTS)
    started_at: AwareDatetime
    actor: str = Field(min_length=1, max_length=500)

    @model_validator(mode="before")
    @classmethod
    def _of_this_version(cls, given: Any) -> Any:
        return of_this_version(given, what="plan of a canary", field="version", version=CANARY_VERSION)

    @model_validator(mode="after")
    def _records_what_it_replays(self) -> Self:
        if (self.way is Way.SHADOW) != (self.recording is not None):
            raise ValueError("a shadow needs a recording, and nothing else does")
        if {self.arm is not None, self.fleet is not None} != {self.way is Way.WHOLE}:
            raise ValueError("a whole device is one arm of its fleet, and nothing else is")
        return self

    @property
    def serves(self) -> str:
        """The release that its device has in service meanwhile."""
        return self.challenger if self.arm is Arm.CHALLENGER else self.incumbent

    def unit(self, value: str, at: datetime) -> str:
        """Whoever sends that value of the header, for as long as an arm is kept: a digest that tells nothing of it."""
        period = int((at - self.started_at).total_seconds() // self.sticky_s)
        return self._digest(f"unit {period} {value}").hex()[:16]

    def draw(self, unit: str) -> Arm:
        """The arm of a unit: the number of a request, or what `unit` gave."""
        if self.arm is not None:
            return self.arm
        drawn = int.from_bytes(self._digest(f"arm {unit}")[:8], "big") >> (64 - _DRAWN_BITS)
        return Arm.CHALLENGER if drawn < self.share * 2**_DRAWN_BITS else Arm.INCUMBENT

    def first_of(self, batch: int) -> Arm:
        """Who is asked first in a shadow's batch that begins with that request; either with the same probability."""
        return Arm.CHALLENGER if self._digest(f"first {batch}")[0] & 1 else Arm.INCUMBENT

    def _digest(self, text: str) -> bytes:
        return hmac.digest(bytes.fromhex(self.seed), text.encode(), hashlib.sha256)
