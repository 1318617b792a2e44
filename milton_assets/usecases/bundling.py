"""Bundling the winner of a run: its health contract first, then everything that says why it won.

    winner = Winner(summary, entry, kind)
    health = Contracts(server, targets, references).measured(winner, least_speed=0.5)
    bundle = bundle_winner(winner, health, sources, Making(into), expires_in_days=None, ...)

What belongs here: where a contract is measured, and what of a run and of the bundles before goes into its bundle; graph
and command line do both alike. What does not: what a bundle is (`edge.bundle`), what a contract promises
(`edge.deployment.contract`), and whether there is a winner at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from milton_assets.edge.bundle import Bundle, Making, Order, create_bundle
from milton_assets.edge.manifest import HealthContract
from milton_assets.fleet.measuring import ContractRequest, Weights
from milton_assets.fleet.targets import Targets
from milton_assets.selection.summary import RunSummary
from milton_assets.usecases.classes import reference_of, telling_who_is_away
from milton_assets.usecases.probe import measured_contract
from milton_assets.usecases.reporting import Sources, summary_for_bundle
from milton_assets.usecases.shared_bundles import newest_release, reserved_by
from milton_assets.vocabulary.keys import class_of
from milton_assets.vocabulary.progress import OnProgress
from milton_assets.vocabulary.registry import Artefact, ArtefactKind, RegistryEntry
from resources.edge_server import EdgeServer


@dataclass(frozen=True)
class Winner:
    """The winner of the run that `summary` tells of, its registry entry, and which of its artefacts is bundled."""

    summary: RunSummary
    entry: RegistryEntry
    kind: ArtefactKind

    @property
    def artefact(self) -> Artefact:
        """The artefact that is bundled. Raises `BadInput` when the entry has none of that kind."""
        return self.entry.artefact(self.kind)

    @property
    def device_class(self) -> str | None:
        """The class that it won for by itself; None is what was measured on the controller."""
        return class_of(self.summary.run_id)


@dataclass(frozen=True)
class Contracts:
    """Where health contracts are measured: by `server` on this machine, or on the reference device of a class."""

    server: Callable[[], EdgeServer]
    targets: Targets
    references: Mapping[str, str]

    def measured(self, winner: Winner, *, least_speed: float, same_answers: bool = True) -> HealthContract:
        """What a device shall be held to: at least that share of the speed, and each answer byte for byte or not.

        Raises `ProbeFailed`, and `Unreachable` for a reference device that is away.
        """
        artefact = winner.artefact
        request = ContractRequest(
            artefact=artefact.sha256,
            model=winner.entry.version,
            least_speed=least_speed,
            same_answers=same_answers,
        )
        path = Path(artefact.path)
        if winner.device_class is None:
            return measured_contract(self.server(), path, request)
        name, reference = reference_of(self.targets, self.references, winner.device_class)
        with telling_who_is_away(name, winner.device_class):
            return reference.contract(Weights(path, artefact.sha256), request)


def bundle_winner(
    winner: Winner,
    health: HealthContract,
    sources: Sources,
    making: Making,
    *,
    expires_in_days: float | None,
    on_progress: OnProgress,
    on_warning: Callable[[str], None],
) -> Bundle:
    """The winner's bundle, with the run's summary as it was decided. Raises as `create_bundle`.

    It follows the newest bundle that any host made, where `making` names no other, and gets a counter that no host's
    has. `expires_in_days` is counted from now, None is never.
    """
    now, summary = datetime.now(UTC), winner.summary
    order = Order(
        winner.entry,
        winner.kind,
        decision=summary.decision.model_dump(mode="json"),
        summary=summary_for_bundle(sources, summary, now=now, on_warning=on_warning).model_dump(mode="json"),
        evidence=summary.manifest,
        now=now,
        state=sources.state,
        health=health,
        expires_at=None if expires_in_days is None else now + timedelta(days=expires_in_days),
    )
    making = replace(
        making,
        previous_release=making.previous_release or newest_release(sources.store),
        reserve=reserved_by(sources.store),
    )
    return create_bundle(order, making, on_progress=on_progress, on_warning=on_warning)
