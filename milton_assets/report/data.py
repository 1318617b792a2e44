"""What a report tells, gathered and validated before anything is drawn.

What belongs here: the nouns. What does not: gathering (`milton_assets.usecases.reporting`) and drawing (`page`).
"""

from __future__ import annotations

from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, model_validator

from milton_assets.selection.decision import Challenge, Decision
from milton_assets.selection.summary import BundleRecord, DeploymentRecord
from milton_assets.vocabulary.case_sheet import CaseSheet
from milton_assets.vocabulary.chart import Chart, PlaneChart
from milton_assets.vocabulary.evidence import EvidenceManifest
from milton_assets.vocabulary.keys import RunId, Slug, TierName
from milton_assets.vocabulary.metric import Direction


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Serving(_Noun):
    """What one target serves when the report is made: which model, since when, by which run's decision, and how it is.

    `model_version` is None where it serves nothing; `well` where it was never probed. `problems` are sentences.
    """

    target: Slug
    model_version: str | None
    since: AwareDatetime | None = None
    run_id: RunId | None = None
    deployment: str | None = None
    well: bool | None = None
    problems: tuple[str, ...] = ()


class FigureChange(_Noun):
    """One model's figure in the run before and in this one; `before` or `now` is None where it was not measured.

    `apart` is whether the two have intervals, and these do not overlap.
    """

    model: str
    metric: str
    unit: str
    better: Direction
    before: float | None
    now: float | None
    apart: bool

    @property
    def improved(self) -> bool | None:
        """Whether it got better; None where that cannot be said or nothing moved."""
        if self.before is None or self.now is None or self.before == self.now:
            return None
        return (self.now > self.before) == (self.better is Direction.HIGHER)


class Since(_Noun):
    """What is other than in the run before: sentences, and each figure of the policy's criteria."""

    run_id: RunId
    sentences: tuple[str, ...]
    figures: tuple[FigureChange, ...]


class TierPart(_Noun):
    """One tier's part: its charts, its cases by model, and by model and kind what the server said at the first error.

    `withheld` says why no case is shown, when none is. A tier that was measured on a private set never has cases here,
    nor a server's words, which may quote them.
    """

    name: TierName
    about: str
    charts: tuple[Chart, ...]
    cases: dict[Slug, tuple[CaseSheet, ...]]
    said: dict[Slug, dict[str, str]] = {}
    private: bool = False
    withheld: str = ""

    @model_validator(mode="after")
    def _keeps_private_sets_in(self) -> Self:
        if self.private and (self.cases or self.said):
            raise ValueError(f"the tier {self.name} was measured on a private set, whose cases may not be shown")
        return self


class RolloutLine(_Noun):
    """A rollout of the campaign's bundle, in a line; `link` is its page, from the folder that this page lies in."""

    name: Slug
    told: str
    is_well: bool
    link: str | None = None


class ReportData(_Noun):
    """One campaign as it is told to somebody who was not there.

    `models` are those that are shown, in the order of their rank. `reference` is the model that flips are told
    against: the incumbent where it stood, else the leader. `compared` is the comparison of the two models that were
    asked for. `since` is what changed since the run before, `no_since` why that cannot be told.
    """

    made_at: AwareDatetime
    release: str
    decision: Decision
    manifest: EvidenceManifest
    models: tuple[Slug, ...]
    reference: Slug | None
    serving: tuple[Serving, ...] = ()
    charts: tuple[Chart, ...] = ()
    tiers: tuple[TierPart, ...] = ()
    compared: Challenge | None = None
    since: Since | None = None
    no_since: str = ""
    bundle: BundleRecord | None = None
    deployments: tuple[DeploymentRecord, ...] = ()
    rollouts: tuple[RolloutLine, ...] = ()
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_run(self) -> Self:
        if self.manifest.digest() != self.decision.manifest_sha256:
            raise ValueError("the manifest is not the one that the decision rests on")
        known = {report.version for report in self.decision.candidates}
        if unknown := [model for model in self.models if model not in known]:
            raise ValueError(f"{unknown} did not stand in {self.decision.run_id}")
        if self.reference is not None and self.reference not in self.models:
            raise ValueError(f"flips are told against {self.reference}, which is not shown")
        private = {name.partition("/")[0] for name in self.manifest.private_goldens}
        if open_tiers := [tier.name for tier in self.tiers if tier.name in private and not tier.private]:
            raise ValueError(f"{open_tiers} were measured on private sets, and are not marked so")
        return self

    @property
    def run_id(self) -> str:
        """The campaign."""
        return self.decision.run_id


class TrendData(_Noun):
    """One figure over campaigns, the deployments marked. `unread` names the runs whose summary could not be read."""

    made_at: AwareDatetime
    release: str
    metric: str
    chart: PlaneChart
    runs: tuple[RunId, ...]
    unread: tuple[str, ...] = ()


class RolloutRow(_Noun):
    """What a table of a rollout's page says in one row: a wave, or a device that did not simply stand."""

    cells: tuple[str, ...]


class RolloutData(_Noun):
    """A rollout over a fleet, as its journal has it. `lines` tell its evidence; `waves` and `devices` are tables, with
    their headers; `left_out` counts the devices that stood, or had the release, and are not in a row."""

    made_at: AwareDatetime
    release: str
    name: Slug
    headline: str
    is_well: bool
    lines: tuple[str, ...]
    chart: PlaneChart
    wave_header: tuple[str, ...]
    waves: tuple[RolloutRow, ...]
    device_header: tuple[str, ...]
    devices: tuple[RolloutRow, ...]
    left_out: int
