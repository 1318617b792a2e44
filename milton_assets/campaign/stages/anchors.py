"""The stage that measures anchors again: the best that was deployed, where it has no figures from today's environment.

What belongs here: what of an anchor is left to measure, where, and what is said of why. What does not: when an anchor
is due (`milton_assets.selection.anchoring`), and where its weights lie (`milton_assets.usecases.anchors`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dagster import MultiPartitionKey

from milton_assets.assets.evidence import ANCHOR_TAG, CANDIDATE_TAG, VARIANTS_TAG
from milton_assets.campaign.children import Child, run_child, wait_for_accelerator
from milton_assets.campaign.under_way import UnderWay
from milton_assets.jobs import BENCHMARK_MODEL, BENCHMARK_ON_CLASS
from milton_assets.partitions import MODEL_VERSIONS, MODELS_ON_CLASSES
from milton_assets.selection.anchoring import Due
from milton_assets.selection.policy_file import load_policy
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.usecases.anchors import Candidacy, anchors_due, what_differs
from milton_assets.usecases.incumbent import heard_of_last
from milton_assets.usecases.shared_history import mirrored_anywhere
from milton_assets.usecases.targets import open_targets
from milton_assets.vocabulary.keys import class_of
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.tier import asset_of
from resources.edge_server import EdgeServer
from resources.evidence_log import REGISTRY_ENTRY_ASSET
from resources.progress import duration


def measure_anchors(campaign: UnderWay) -> None:
    """Measure again, once, the best that was deployed, where it is no candidate and has no figures from the
    environment that what serves is measured in now."""
    wanted = _anchors(campaign)
    campaign.shown.joined_by([f"{named.version} (anchor)" for named in wanted])
    for number, (named, dues) in enumerate(wanted.items(), len(campaign.candidates) + 1):
        places = {place: None for run_id, one in dues for place in _places(run_id, one.tiers)}
        left = [(tier, on) for tier, on in places if not campaign.is_measured(named.anchor_key, tier, on)]
        place = f"{number}/{campaign.shown.candidates}"
        if not left:
            campaign.say(f"model {place} {named.version}, an anchor: measured before the interruption")
            continue
        campaign.say(f"model {place} {named.version}: {_why_again(campaign, *dues[0], [tier for tier, _ in left])}")
        tags = {CANDIDATE_TAG: place, VARIANTS_TAG: campaign.record.variants_seed, ANCHOR_TAG: str(named)}
        assets = [REGISTRY_ENTRY_ASSET, *(asset_of(tier) for tier, on in left if on is None)]
        wait_for_accelerator(campaign)
        done = run_child(campaign, Child(BENCHMARK_MODEL, named.anchor_key, MODEL_VERSIONS, tags=tags, assets=assets))
        for on in dict.fromkeys(on for _, on in left if on is not None):
            key = MultiPartitionKey({"device_class": on, "model_version": named.anchor_key})
            done = done and run_child(campaign, Child(BENCHMARK_ON_CLASS, key, MODELS_ON_CLASSES, tags=tags))
        if not done:
            campaign.say(f"model {place} {named.version}, an anchor: failed; the decision says what follows")


def _anchors(campaign: UnderWay) -> dict[NamedWeights, list[tuple[str, Due]]]:
    """The anchors that are due, each with the decisions that want it."""
    rule = load_policy(campaign.settings.policy).incumbent
    stands = Candidacy.of(campaign.registry.read(), campaign.kind, let_go=campaign.settings.anchors_let_go)
    found: dict[NamedWeights, list[tuple[str, Due]]] = {}
    for run_id in campaign.decided:
        for one in anchors_due(run_id, campaign.store, rule, _serving(campaign, run_id), stands, installed_tiers()):
            found.setdefault(one.weights, []).append((run_id, one))
    return found


def _serving(campaign: UnderWay, run_id: str) -> str | None:
    """What the targets of that run were last heard to serve; none is asked."""
    settings = campaign.settings
    targets = open_targets(settings.state, settings.target_paths, server=EdgeServer)
    return heard_of_last(settings.targets_of(run_id), mirrored_anywhere(campaign.store, targets))


def _places(run_id: str, tiers: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Each of the tiers with where it is measured for that decision: on a class's reference device, or here (None)."""
    known = installed_tiers()
    for tier in tiers:
        yield tier, class_of(run_id) if known[tier].per_class else None


def _why_again(campaign: UnderWay, run_id: str, one: Due, tiers: Sequence[str]) -> str:
    """Why an anchor is measured again, by what, and how long that may take."""
    differs = what_differs(one, run_id, campaign.store, _serving(campaign, run_id), installed_tiers())
    seconds = campaign.shown.usual_s(tiers)
    return (
        f"the best deployed on {' and '.join(one.metrics)} is no candidate, and its figures of {one.newest.run_id} "
        f"are from another environment{f' ({differs})' if differs else ''}; measured again by {', '.join(tiers)}"
        + (f", about {duration(seconds)}" if seconds is not None else "")
    )
