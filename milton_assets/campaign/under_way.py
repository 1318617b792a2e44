"""A campaign that is being led: what it is led with, what it measures and has measured, and where it says so.

What belongs here: what all stages ask of it. What does not: what a stage does (`milton_assets.campaign.stages`), its
child runs (`milton_assets.campaign.children`), and what is left of it when it was interrupted
(`milton_assets.vocabulary.campaign`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from dagster import DagsterInstance, OpExecutionContext

from milton_assets.assets.evidence import CAMPAIGN_TAG
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.vocabulary.campaign import UnfinishedCampaign
from milton_assets.vocabulary.registry import ArtefactKind
from resources.campaign import Campaign
from resources.evidence_log import measured_in, place_of
from resources.evidence_store import EvidenceStore
from resources.progress import Meter
from resources.registry_resource import RegistryResource


@dataclass(frozen=True)
class UnderWay:
    """A campaign that is being led: the conductor's run, its settings, where its evidence lies, its record, its meter,
    and the registry and the kind of artefact that it measures."""

    context: OpExecutionContext
    settings: Campaign
    store: EvidenceStore
    record: UnfinishedCampaign
    shown: Meter
    registry: RegistryResource
    kind: ArtefactKind

    @property
    def run_id(self) -> str:
        """The campaign's own id."""
        return self.record.run_id

    @property
    def instance(self) -> DagsterInstance:
        """Dagster's instance, which keeps its runs."""
        return self.context.instance

    @property
    def candidates(self) -> list[str]:
        """The versions that it measures, in order."""
        return list(self.record.conditions.candidates)

    @property
    def tiers(self) -> list[str]:
        """The tiers that this machine measures: all, but for those of speed where no target is decided for by it."""
        known, here = installed_tiers(), self.settings.decides_here()
        return [tier for tier in self.record.conditions.tiers if here or not known[tier].per_class]

    @property
    def places(self) -> list[tuple[str, str]]:
        """Each tier that is measured on reference devices, with each class that has one."""
        known = installed_tiers()
        per_class = [tier for tier in self.record.conditions.tiers if known[tier].per_class]
        return [(tier, name) for name in self.settings.class_references for tier in per_class]

    @property
    def decided(self) -> dict[str, list[str]]:
        """The runs that decide in this campaign, each with the targets that get its winner."""
        return self.settings.runs_of(self.run_id)

    def measured(self, version: str) -> list[str]:
        """The tiers that this campaign measured of that version already, on this machine."""
        return [tier for tier in self.tiers if self.is_measured(version, tier, None)]

    def is_measured(self, version: str, tier: str, device_class: str | None) -> bool:
        """Whether this campaign measured the version by that tier, on the class's reference device or here (None)."""
        tags = {CAMPAIGN_TAG: self.run_id}
        return measured_in(self.instance, self.store, *place_of(tier, version, device_class), tags)

    def measurements(self) -> tuple[int, int]:
        """How many measurements of candidates are done, and how many there are."""
        done = sum(len(self.measured(version)) for version in self.candidates)
        done += sum(self.is_measured(version, *place) for version in self.candidates for place in self.places)
        return done, len(self.candidates) * (len(self.tiers) + len(self.places))

    def say(self, line: str) -> None:
        """A line on the terminal and in the run's log."""
        self.shown.say(line)
        self.context.log.info(line)


class NotDone(NamedTuple):
    """A deployment, or a rollout, that did not come to its end, and what to type once that is mended."""

    what: str
    then: str
