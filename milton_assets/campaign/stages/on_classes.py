"""The stage that measures the candidates on the reference device of each class that has one.

What belongs here: what of a candidate is left to measure there, and what is measured again because the device was
another before the interruption. What does not: what is measured on this machine
(`milton_assets.campaign.stages.candidates`), and how devices are compared (`vocabulary.fingerprint`).
"""

from __future__ import annotations

from dagster import MultiPartitionKey

from milton_assets.assets.evidence import CANDIDATE_TAG
from milton_assets.campaign.children import Child, run_child
from milton_assets.campaign.under_way import UnderWay
from milton_assets.jobs import BENCHMARK_ON_CLASS
from milton_assets.partitions import MODELS_ON_CLASSES
from milton_assets.vocabulary.errors import EvidenceMismatch
from milton_assets.vocabulary.fingerprint import Fingerprint
from milton_assets.vocabulary.tier import TierResult
from resources.evidence_log import place_of, why_last_run_failed


def measure_on_classes(campaign: UnderWay) -> None:
    """Measure on each class's reference device what is not measured there yet, or was when it was another machine.

    What a device's owner sets there is known only when it serves, so what was measured before an interruption is held
    against what was measured since.
    """
    for name, reference in campaign.settings.class_references.items():
        before, since = list[str](), list[str]()
        for version in campaign.candidates:
            if why_last_run_failed(campaign.instance, version) is not None:
                continue  # it is out, whatever the device would say
            if all(campaign.is_measured(version, tier, on) for tier, on in campaign.places if on == name):
                before.append(version)
            elif _measured_on(campaign, version, name, reference, "measured on"):
                since.append(version)
        for version in before if since else ():
            if how := _otherwise_then(campaign, name, version, since[-1]):
                campaign.say(
                    f"{version} was measured on {reference} before the interruption, when it was another: {how}"
                )
                _measured_on(campaign, version, name, reference, "measured again on")


def _measured_on(campaign: UnderWay, version: str, device_class: str, reference: str, how: str) -> bool:
    """Have the version measured on the class's reference device; whether it was."""
    place = f"{campaign.candidates.index(version) + 1}/{len(campaign.candidates)}"
    campaign.say(f"model {place} {version}: {how} {reference}, for the class {device_class}")
    key = MultiPartitionKey({"device_class": device_class, "model_version": version})
    done = run_child(campaign, Child(BENCHMARK_ON_CLASS, key, MODELS_ON_CLASSES, tags={CANDIDATE_TAG: place}))
    if not done:
        campaign.say(f"model {place} {version}: failed on {reference}; the others go on")
    return done


def _otherwise_then(campaign: UnderWay, device_class: str, version: str, newest: str) -> str:
    """How the reference device was another when it measured `version` than when it measured `newest`; or empty."""
    found = dict.fromkeys(
        how
        for tier, on in campaign.places
        if on == device_class
        for how in _device_of(campaign, tier, version, on).comparable_with(_device_of(campaign, tier, newest, on))
    )
    return "; ".join(found)


def _device_of(campaign: UnderWay, tier: str, version: str, device_class: str) -> Fingerprint:
    """The device and its server as the version's latest table of the class describes them."""
    file = campaign.store.latest(*place_of(tier, version, device_class))
    if file is None:
        raise EvidenceMismatch(f"there is no table of {version} on the class {device_class}, which was measured")
    return Fingerprint.model_validate(TierResult.from_table(file.read()).provenance["fingerprint"])
