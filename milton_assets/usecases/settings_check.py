"""Whether settings can be acted on: what they name is there. Asked before anything is measured.

    for problem in problems_of(load_settings()): print(problem)

What belongs here: holding settings against what is installed, on disk and in the tiers. What does not: their form,
which is checked when they are read (`milton_assets.settings`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from milton_assets.selection import Policy, load_policy
from milton_assets.selection.policy_file import check_metrics
from milton_assets.settings import Settings
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.usecases import compose
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.golden_set import read_goldens
from resources.servers.llama_cpp import LlamaCppLauncher
from resources.servers.vllm import VLLMLauncher


def check_settings(settings: Settings) -> None:
    """Raise `BadInput` with everything that `problems_of` finds."""
    if found := problems_of(settings):
        raise BadInput(
            "; ".join(error.problem for error in found),
            expected="; ".join(dict.fromkeys(error.expected for error in found if error.expected)) or None,
            remedy="; ".join(dict.fromkeys(error.remedy for error in found if error.remedy))
            or "correct the settings; `milton config show` says where each comes from",
        )


def problems_of(settings: Settings) -> tuple[MiltonError, ...]:
    """Everything that would fail later: policy, goldens, servers, targets, side models, evidence store."""
    return tuple({str(problem): problem for problem in _problems(settings)}.values())


def check_policy(name_or_path: str) -> Policy:
    """The policy, whose every metric some installed tier measures. Raises `BadInput` otherwise, with the nearest."""
    return check_metrics(load_policy(name_or_path), installed_tiers())


def _problems(settings: Settings) -> Iterator[MiltonError]:
    yield from _raised(lambda: check_policy(compose.chosen_of(settings).policy))
    yield from _goldens(settings)
    for name in settings.targets:
        yield from _raised(partial(compose.targets_of(settings).named, name))
    makers: tuple[Callable[[Settings], Any], ...] = (
        compose.judge_of,
        compose.embeddings_of,
        compose.evidence_store_of,
    )
    for make in makers:
        yield from _raised(partial(make, settings))
    yield from _raised(lambda: _launchable(compose.model_server_of(settings)))
    edge = compose.edge_server_of(settings)
    yield from _raised(lambda: _launchable(edge.file if settings.artifact.value == "gguf" else edge.directory))


def _goldens(settings: Settings) -> Iterator[MiltonError]:
    """Every set is read whole by its tier's own reader."""
    tiers = installed_tiers()
    for tier, sets in settings.goldens.items():
        yield from _raised(lambda tier=tier, sets=sets: read_goldens(tiers[tier], sets))  # type: ignore[misc]


def _launchable(server: object) -> None:
    if isinstance(server, LlamaCppLauncher):
        server.program()
    elif isinstance(server, VLLMLauncher):
        server.program(Path("MODEL"))


def _raised(attempt: Callable[[], Any]) -> Iterator[MiltonError]:
    try:
        attempt()
    except MiltonError as error:
        yield error
