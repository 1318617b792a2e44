"""Whether settings can be acted on: what they name is there. Asked before anything is measured.

    for problem in problems_of(load_settings()): print(problem)

What belongs here: holding settings against what is installed, on disk and in the tiers. What does not: their form,
which is checked when they are read (`milton_assets.settings`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from milton_assets.selection.policy import Policy
from milton_assets.selection.policy_file import check_metrics, load_policy
from milton_assets.settings import GoldenSet, Settings
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.usecases import compose
from milton_assets.usecases.rollouts import check_usual
from milton_assets.usecases.targets import open_targets
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.golden_set import read_goldens
from milton_assets.vocabulary.registry import ArtefactKind
from resources.edge_server import EdgeServer
from resources.servers.llama_cpp import LlamaCppLauncher
from resources.servers.vllm import VLLMLauncher

if TYPE_CHECKING:
    from resources.campaign import Campaign  # which imports Dagster


def check_settings(settings: Settings) -> None:
    """Raise `BadInput` with everything that `problems_of` finds."""
    _refuse(problems_of(settings))


def problems_of(settings: Settings) -> tuple[MiltonError, ...]:
    """Everything that would fail later: policy, goldens, servers, targets, side models, registry, evidence store."""
    return _collected(
        settings.goldens,
        lambda: check_policy(compose.chosen_of(settings).policy),
        lambda: compose.judge_of(settings),
        lambda: compose.embeddings_of(settings),
        lambda: compose.evidence_store_of(settings),
        lambda: compose.registry_of(settings),
        *(partial(compose.targets_of(settings).named, name) for name in settings.targets),
        *(partial(check_usual, settings.rollout_to(name), name) for name in settings.device_classes),
        lambda: _launchable(compose.model_server_of(settings)),
        lambda: _edge_launchable(compose.edge_server_of(settings), settings.artifact),
    )


def check_campaign(campaign: Campaign, server: Callable[[], object], edge: Callable[[], EdgeServer]) -> None:
    """As `check_settings`, for a campaign as it was launched: with what was edited in the launchpad.

    `server` and `edge` make what candidates and releases are served with. Raises `BadInput`.
    """
    targets = open_targets(campaign.state, campaign.target_paths, server=edge)
    _refuse(
        _collected(
            campaign.goldens,
            lambda: check_policy(campaign.policy),
            lambda: campaign.judge,
            lambda: campaign.embeddings,
            *(partial(targets.named, name) for name in campaign.target_names()),
            *(partial(check_usual, campaign.rollout_to(name), name) for name in campaign.class_rollouts),
            lambda: _launchable(server()),
            lambda: _edge_launchable(edge(), campaign.artifact),
        )
    )


def check_policy(name_or_path: str) -> Policy:
    """The policy, whose every metric some installed tier measures. Raises `BadInput` otherwise, with the nearest."""
    return check_metrics(load_policy(name_or_path), installed_tiers())


def _refuse(found: Sequence[MiltonError]) -> None:
    if found:
        raise BadInput(
            "; ".join(error.problem for error in found),
            expected="; ".join(dict.fromkeys(error.expected for error in found if error.expected)) or None,
            remedy="; ".join(dict.fromkeys(error.remedy for error in found if error.remedy))
            or "correct the settings; `milton config show` says where each comes from",
        )


def _collected(goldens: Mapping[str, Sequence[GoldenSet]], *attempts: Callable[[], object]) -> tuple[MiltonError, ...]:
    found = [*_broken_goldens(goldens)]
    for attempt in attempts:
        try:
            attempt()
        except MiltonError as error:
            found.append(error)
    return tuple({str(error): error for error in found}.values())


def _broken_goldens(goldens: Mapping[str, Sequence[GoldenSet]]) -> Iterator[MiltonError]:
    """Every set is read whole, by its tier's own reader."""
    tiers = installed_tiers()
    for tier, sets in goldens.items():
        try:
            read_goldens(tiers[tier], sets)
        except MiltonError as error:
            yield error


def _edge_launchable(edge: EdgeServer, kind: ArtefactKind) -> None:
    _launchable(edge.file if kind is ArtefactKind.GGUF else edge.directory)


def _launchable(server: object) -> None:
    if isinstance(server, LlamaCppLauncher):
        server.program()
    elif isinstance(server, VLLMLauncher):
        server.program(Path("MODEL"))
