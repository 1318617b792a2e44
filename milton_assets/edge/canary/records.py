"""What a canary keeps of each request, in the order in which requests ended: a JSON line each, and never any text.

What belongs here: the records and reading them. What does not: what they amount to (`counts`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from milton_assets.edge.canary.plan import Arm
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import Slug

RECORD_VERSION: Final = 2
MAX_RECORD_BYTES = 1024
RESPONSE_ID = r"[0-9a-f]{24}"

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Marked(_Record):
    """The answer to a golden question. `turn` is the order in which units' first requests asked it; `right` is None
    where no whole answer could be read."""

    question: Slug
    turn: int | None = Field(default=None, ge=0)
    right: bool | None = None


class Asked(_Record):
    """A request that ended. `number` is the order of arrival; `unit` who asked, where a header says that; `nth` is the
    order among the units' first requests, None for a later one of the same unit.

    `outcome` is how its user saw it end (`edge.serving.metrics.Outcome`). `lost` says that the challenger's server was
    lost before it answered, and the incumbent answered instead. Times are seconds, None where there was none. `golden`
    is told of a request that asked a golden question.
    """

    v: Literal[2] = RECORD_VERSION
    kind: Literal["asked"] = "asked"
    at: AwareDatetime
    number: int = Field(ge=0)
    nth: int | None = Field(default=None, ge=0)
    unit: str | None = Field(default=None, pattern=r"[0-9a-f]{16}")
    arm: Arm
    response: str = Field(pattern=RESPONSE_ID)
    outcome: Literal["answered", "refused", "client_left", "upstream_lost"]
    status: int = Field(ge=0, le=599)
    lost: bool = False
    duration_s: Seconds
    first_token_s: Seconds | None = None
    per_token_s: Seconds | None = None
    output_tokens: int | None = Field(default=None, ge=0)
    golden: Marked | None = None

    @property
    def failed(self) -> bool:
        """Whether the server failed it: a status of 500 and more, a cut, a server that was lost."""
        return self.lost or self.status >= 500 or self.outcome == "upstream_lost"

    @property
    def erred(self) -> bool:
        """Whether it ended in any way that its user did not want: besides `failed`, a request that was refused, and a
        user who left before the first token."""
        gave_up = self.outcome == "client_left" and self.first_token_s is None
        return self.failed or self.status >= 400 or gave_up


class Rated(_Record):
    """What a user thought of an answer: 1 or -1; `unit` is who had asked, where a header says that."""

    v: Literal[2] = RECORD_VERSION
    kind: Literal["rated"] = "rated"
    at: AwareDatetime
    response: str = Field(pattern=RESPONSE_ID)
    unit: str | None = Field(default=None, pattern=r"[0-9a-f]{16}")
    arm: Arm
    value: Literal[1, -1]


class Replied(_Record):
    """How one of the two answered a recorded request: `failed` when it did not, else its times, its tokens, and the
    digest of its answer, and whether that is right where a golden question was asked."""

    failed: bool
    first_token_s: Seconds | None = None
    per_token_s: Seconds | None = None
    output_tokens: int | None = Field(default=None, ge=0)
    answer_sha256: Sha256 | None = None
    right: bool | None = None


class Paired(_Record):
    """A recorded request that both were asked. `number` is its place in the recording, `first` who was asked first,
    `golden` the golden question that it asks."""

    v: Literal[2] = RECORD_VERSION
    kind: Literal["paired"] = "paired"
    at: AwareDatetime
    number: int = Field(ge=0)
    first: Arm
    golden: Slug | None = None
    challenger: Replied
    incumbent: Replied


Record = Asked | Rated | Paired
_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def records_in(raw: bytes, where: object) -> Iterator[Record]:
    """The records in a journal's bytes. A last line without an end was torn, and is left out.

    Raises `BadInput` for any other line that is no record.
    """
    for number, line in enumerate(raw.split(b"\n")[:-1], 1):
        try:
            yield _RECORD.validate_json(line)
        except ValidationError as error:
            raise BadInput(
                f"line {number} of {where} is no record of a request: {error.errors()[0]['msg']:.200}",
                expected="a journal that only the gateway wrote",
                remedy="`milton canary stop` ends the canary; start another",
            ) from None


def line_of(record: Record) -> bytes:
    """The record as its line."""
    raw: Any = record.model_dump_json(exclude_defaults=False).encode()
    return bytes(raw) + b"\n"
