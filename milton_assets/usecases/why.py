"""Why a target serves what it serves: model, since when, by which decision, beside the model before, and its health.

    why_of(target, store.runs)

What belongs here: putting the target's history and the runs' summaries together. What does not: verifying the chain
(`trace`), and the page (`reporting`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from milton_assets.edge.deployment import Deployment, Outcome
from milton_assets.fleet.target import Health, Target
from milton_assets.selection.decision import Decision
from milton_assets.selection.summary import read_summary
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.places import Place


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Beside(_Noun):
    """One criterion: the figure of the model that serves, and that of the one before it; None where it is not known."""

    label: str
    now: Metric
    before: Metric | None


class Why(_Noun):
    """The answer. `decided` is None where the deciding run's summary is not here, and `not_known` says so; `held_to` is
    whom challengers were held to besides the model before."""

    target: str
    model_version: str
    since: datetime | None
    deployment: str | None
    actor: str | None
    run_id: str
    verdict: str | None
    policy: str | None
    because: str | None
    before: str | None
    figures: tuple[Beside, ...]
    held_to: tuple[str, ...] = ()
    health: Health
    not_known: tuple[str, ...] = ()


def why_of(target: Target, runs: Place) -> Why:
    """Why `target` serves what it serves. Raises as `Target.status`, and `BadInput` where it serves nothing."""
    active, history, health = target.status().active, target.history(), target.health()
    if active is None:
        raise BadInput(f"the target {target.name} serves nothing", remedy="`milton deploy` takes a bundle there")
    brought = _brought(history, active.digest)
    earlier = brought.from_release if brought else None
    before = next((d for d in reversed(history) if earlier is not None and d.release == earlier), None)
    not_known: list[str] = []
    decision = _decision(runs, active.run_id, not_known)
    return Why(
        target=target.name,
        model_version=active.model_version,
        since=health.since,
        deployment=brought.id if brought else None,
        actor=brought.actor if brought else None,
        run_id=active.run_id,
        verdict=decision.verdict.value if decision else None,
        policy=f"{decision.policy.name} v{decision.policy.version}" if decision else None,
        because=decision.reasons[0] if decision else None,
        before=before.model_version if before else None,
        figures=tuple(_figures(active.model_version, decision, before, runs, not_known)) if decision else (),
        held_to=tuple(_held_to(decision, active.model_version)) if decision else (),
        health=health,
        not_known=tuple(not_known),
    )


def _brought(history: tuple[Deployment, ...], release: str) -> Deployment | None:
    """The attempt that brought the release that serves now, the first since another one served."""
    found = None
    for done in history:
        if done.now_serving != release:
            found = None
        elif found is None and done.outcome is Outcome.COMMITTED:
            found = done
    return found


def _held_to(decision: Decision, serving: str) -> Iterator[str]:
    """The best that was deployed, by metric, where that is neither what serves nor what served before it."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in decision.ledger.anchors:
        if one.version not in {serving, decision.incumbent}:
            found.setdefault((one.version, one.tables[-1].run_id), []).append(one.metric)
    for (version, run_id), metrics in found.items():
        yield f"{version}, the best deployed on {' and '.join(metrics)}, as {run_id} measured it"


def _decision(runs: Place, run_id: str, not_known: list[str]) -> Decision | None:
    try:
        return read_summary(runs, run_id).decision
    except BadInput as error:
        not_known.append(str(error))
        return None


def _figures(
    version: str, decision: Decision, before: Deployment | None, runs: Place, not_known: list[str]
) -> list[Beside]:
    """The criteria of the decision. The model before is taken from the same run where it stood in it, for only then was
    it measured beside this one; else from the run that chose it."""
    earlier = before.model_version if before else None
    compared: Decision | None = decision
    if earlier is not None and earlier not in {report.version for report in decision.candidates}:
        compared = _decision(runs, str(before.run_id), not_known) if before and before.run_id else None
    return [
        Beside(
            label=criterion.label,
            now=decision.candidate(version).reading(criterion.tier, criterion.metric),
            before=_reading(compared, earlier, criterion.tier, criterion.metric),
        )
        for criterion in decision.policy.criteria
    ]


def _reading(decision: Decision | None, version: str | None, tier: str, metric: str) -> Metric | None:
    if decision is None or version is None:
        return None
    try:
        return decision.candidate(version).reading(tier, metric)
    except BadInput:
        return None
