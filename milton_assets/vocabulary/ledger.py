"""The ledger: what earlier decisions saw and tested, as far as later ones must know it.

What belongs here: the nouns that one decision hands to the next. What does not: what is made of them
(`selection.life`), and where the decision before lies.

A decision gets a ledger in its evidence manifest and writes the next one; so the ledger is pinned as evidence is, and a
decision is repeated from its own files alone. Figures are kept as few numbers, not as lists: a ledger does not grow
with the number of campaigns.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.keys import RunId, Slug, TierName
from milton_assets.vocabulary.named_weights import NamedWeights


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Repeated(NamedTuple):
    """A figure of the same weights, measured in the same way and environment `seen` times.

    `mean` and `squares` are the mean of its logarithm and the sum of squared deviations from it; `evidence` is the
    digest of the last table that counted, which never counts twice.
    """

    seen: int
    mean: float
    squares: float
    evidence: str


class Spread(NamedTuple):
    """What repeated measurements of weights that do not stand any more showed: squared deviations, degrees of
    freedom."""

    squares: float
    freedom: int


class Tally(NamedTuple):
    """One metric of one challenger against the incumbent, over the incumbent's life.

    `seen` pieces of evidence had differences that sum to `total` (logarithms where the margin is relative); `p_spent`
    is the p-value of the last look over the share that this look might spend, `better` which way it pointed. `evidence`
    is the digest of the last piece, which never counts twice.
    """

    seen: int
    total: float
    p_spent: float
    better: bool
    evidence: str


class Challenger(_Noun):
    """A challenger that was tested: the group of newcomers it came with, from 1, and its tests by `TIER/METRIC`."""

    group: int
    tests: dict[str, Tally]


class Previous(_Noun):
    """The decision that wrote the ledger."""

    run_id: RunId
    decision_sha256: Sha256


ENVIRONMENTS_KEPT: Final = 8
"""Of an anchor that was measured in more environments than that, the tables of the newest are kept."""


class AnchorTable(_Noun):
    """One table of an anchor: where it lies, its digest, and the run that pinned it first.

    `how` is the digest of what was measured and how, environment included; `here` is that of the incumbent's table in
    that run, which is another where how is asked depends on the model.
    """

    how: Sha256
    here: Sha256
    run_id: RunId
    uri: str
    sha256: Sha256


class Anchor(_Noun):
    """The best that was ever deployed, on one metric: the version, its weights, and the tables that its figure is in.

    The first table is from when it served, the others from environments that came after, each measured once; the
    newest stands last.
    """

    tier: TierName
    metric: str
    version: Slug
    artefact_sha256: Sha256
    tables: tuple[AnchorTable, ...] = Field(min_length=1)

    @property
    def weights(self) -> NamedWeights:
        """Its weights, under the version that they were deployed as."""
        return NamedWeights(self.version, self.artefact_sha256)

    def measured(self, here: str) -> AnchorTable | None:
        """Its newest table from the environment in which the incumbent's is `here`; None where there is none."""
        return next((one for one in reversed(self.tables) if here in (one.here, one.how)), None)

    def with_table(self, table: AnchorTable) -> Anchor:
        """The anchor with one table more. The first stays, whatever comes."""
        first, *later = *self.tables, table
        return self.model_copy(update={"tables": (first, *later[1 - ENVIRONMENTS_KEPT :])})


class Ledger(_Noun):
    """What a decision is told of those before it.

    `incumbent` is the SHA-256 of the weights whose life this is, None where nothing was deployed. `families` says of
    each group of newcomers how many hypotheses it brought. `challengers` are known by the digest of their weights and
    of how they were measured; `repeats` by how and what was measured, then by the weights. `starts_because` is why
    there was nothing to go on with, where that is not because this was the first decision.
    """

    previous: Previous | None = None
    starts_because: str | None = None
    incumbent: Sha256 | None = None
    families: tuple[int, ...] = ()
    challengers: dict[Sha256, Challenger] = {}
    repeats: dict[str, dict[Sha256, Repeated]] = {}
    spreads: dict[str, Spread] = {}
    anchors: tuple[Anchor, ...] = ()

    def anchor(self, tier: str, metric: str) -> Anchor | None:
        """The anchor of that metric, if there is one."""
        return next((one for one in self.anchors if (one.tier, one.metric) == (tier, metric)), None)
