"""Rounds in turn: what a table says of the rounds in which its model was measured beside the one that serves.

What belongs here: that noun, how many such rounds are planned, how a table's provenance holds it, and the ratios of a
figure that it gives. What does not: measuring such rounds (`milton_assets.tiers.inference.beside`), and what they show
(`milton_assets.selection`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import Slug

BESIDE: Final = "beside"
"""What a table's provenance calls it."""

ROUNDS: Final = 20
"""In turn, of each model, where the budget has room for them; of one request, or as many as are in flight at once."""

LEAST_ROUNDS: Final = 3
"""Fewer rounds of a figure say nothing about how far it is off."""


class RoundPair(BaseModel):
    """One round of each of the two models, one directly after the other: figures by metric, in the metric's unit.

    A figure that a round does not have is not in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mine: dict[str, float]
    theirs: dict[str, float]


def log_ratios_of(rounds: Sequence[RoundPair], metric: str) -> tuple[float, ...]:
    """The logarithm of mine over theirs in each of the rounds that has both, both above 0; none where those are fewer
    than `LEAST_ROUNDS`."""
    both = ((one.mine.get(metric, 0.0), one.theirs.get(metric, 0.0)) for one in rounds)
    ratios = tuple(math.log(mine / theirs) for mine, theirs in both if mine > 0 and theirs > 0)
    return ratios if len(ratios) >= LEAST_ROUNDS else ()


class Beside(BaseModel):
    """The rounds in turn of a table's model with the incumbent `version`, whose weights are `artefact_sha256`.

    `because` says why there are none, where there are none. `unsound` names the metrics that cannot be relied on, each
    with the reason.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Slug
    artefact_sha256: Sha256
    rounds: tuple[RoundPair, ...] = ()
    because: str | None = None
    unsound: dict[str, str] = {}

    @classmethod
    def of(cls, provenance: Mapping[str, Any]) -> Beside | None:
        """What a table's provenance says; None where nothing served, or its own model did.

        Raises `BadInput` for one that does not read.
        """
        if (stated := provenance.get(BESIDE)) is None:
            return None
        try:
            return cls.model_validate(stated)
        except ValidationError as error:
            raise BadInput(
                f"the rounds in turn that a table states do not read: {error.errors()[0]['msg']}",
                expected="those that this release wrote",
                remedy="benchmark again",
            ) from error

    def log_ratios(self, metric: str) -> tuple[float, ...]:
        """Those of its rounds; none where the metric is unsound."""
        return () if metric in self.unsound else log_ratios_of(self.rounds, metric)

    def why_not(self, metric: str) -> str | None:
        """Why there are no ratios of that metric; None where there are."""
        if self.log_ratios(metric):
            return None
        return self.because or self.unsound.get(metric) or f"there are fewer than {LEAST_ROUNDS} rounds that have both"
