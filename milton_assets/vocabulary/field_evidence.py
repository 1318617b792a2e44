"""What the field said of the model that serves, as a decision gets it: canaries' verdicts with the counts behind them.

What belongs here: the nouns that the evidence manifest pins. What does not: where verdicts lie and whether they hold
(`milton_assets.usecases.field_evidence`), and what a decision makes of them (`milton_assets.selection.field`).

A decision is repeated from its manifest alone, so a verdict's counts stand here beside the digest of its document.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.keys import Slug

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Said = Literal["promote", "go_back", "not_yet"]


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FieldArm(_Noun):
    """One side of a comparison: how many of its `requests` `erred`.

    `units` are what an error rate may be reckoned over, and `units_erred` those of them whose first request erred: the
    requests themselves, or users where a header kept each with one release. Of a fleet the requests of one device are
    not independent: there are no units, and `per_device` has each device's share of errors, in increasing order.
    """

    requests: Count
    erred: Count
    units: Count = 0
    units_erred: Count = 0
    per_device: tuple[Share, ...] = ()

    @model_validator(mode="after")
    def _parts_of_a_whole(self) -> Self:
        if self.erred > self.requests or self.units_erred > self.units:
            raise ValueError("more erred than there were")
        if self.units and self.per_device:
            raise ValueError("an arm has units, or devices")
        return self


class FieldFinding(_Noun):
    """One verdict: the canary's id, the digest of its document and the key that signed it (None: nobody did).

    `target` is the device whose requests were split, None where `devices` devices were compared. `challenger_artefact`
    are the challenger's weights, None where nothing here knows what that release was made of. `by_evidence` is whether
    the counts lead to the verdict, and not a fact, such as a server that died or a person who stopped it.
    """

    canary: Slug
    sha256: Sha256
    signer: str | None = Field(default=None, max_length=200)
    target: Slug | None
    devices: int = Field(default=1, ge=1)
    challenger_version: Slug
    challenger_artefact: Sha256 | None = None
    beside: tuple[Slug, ...] = Field(min_length=1)
    said: Said
    by_evidence: bool
    why: str = Field(max_length=4000)
    challenger: FieldArm
    incumbent: FieldArm
    since: AwareDatetime
    until: AwareDatetime

    def concerns(self, version: str) -> bool:
        """Whether that version was one of those that were compared."""
        return version == self.challenger_version or version in self.beside


class FieldEvidence(_Noun):
    """What the field said of `version`, which serves: the latest `findings`, oldest first, and how many `older` there
    are. `refused` has a sentence for each verdict that does not hold, whomever it was about."""

    version: Slug | None = None
    findings: tuple[FieldFinding, ...] = ()
    older: Count = 0
    refused: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _of_one_version(self) -> Self:
        if strange := [one.canary for one in self.findings if self.version is None or not one.concerns(self.version)]:
            raise ValueError(f"{', '.join(strange)} compared others than {self.version}")
        return self
