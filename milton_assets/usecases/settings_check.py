"""Whether settings can be acted on: what they name is there. Asked before anything is measured.

    for problem in problems_of(load_settings()): print(problem)

What belongs here: holding settings against what is installed, on disk and in the tiers. What does not: their form,
which is checked when they are read (`milton_assets.settings`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from milton_assets.selection import Policy, load_policy
from milton_assets.settings import Settings
from milton_assets.usecases import compose
from milton_assets.usecases.dry_run import METRICS
from milton_assets.vocabulary.errors import BadInput, MiltonError
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
    """The policy, whose every metric some tier measures. Raises `BadInput` otherwise, with the nearest name."""
    policy = load_policy(name_or_path)
    known = {tier: [name for name, _ in metrics] for tier, metrics in METRICS.items()}
    unknown = [ref for ref in policy.metrics() if ref.metric not in known.get(ref.tier, [])]
    if unknown:
        near = [_near(ref.metric, known.get(ref.tier, [])) for ref in unknown]
        raise BadInput(
            f"the policy {policy.name} asks for " + ", ".join(f"{ref.tier} {ref.metric}" for ref in unknown),
            expected="metrics that a tier measures: " + "; ".join(near),
            remedy=f"correct the policy {name_or_path}",
        )
    return policy


def _near(name: str, known: list[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"{found[0]} for {name}" if found else f"one of {', '.join(known)} for {name}"


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
    tiers = [str(tier) for tier in METRICS]
    for tier, sets in settings.goldens.items():
        if tier not in tiers:
            yield BadInput(f"goldens.{tier}: there is no such tier", expected=f"one of {', '.join(tiers)}")
        for golden in sets:
            if not golden.path.exists():
                yield BadInput(
                    f"goldens.{tier}: there is no {golden.path}",
                    expected="a file or folder with goldens",
                    remedy="correct the path in milton.yaml; a relative one counts from the state folder",
                )


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
