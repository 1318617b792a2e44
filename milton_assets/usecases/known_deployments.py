"""Every deployment that is known here: what the targets tell, and the mirrors that this state folder keeps of it.

What belongs here: gathering them, and who has to be believed. What does not: telling them apart from attempts that
failed, and following one to the weights (`trace`).
"""

from __future__ import annotations

from collections.abc import Mapping

from milton_assets.edge.deployment import Deployment, JournalDamaged, NotATarget, Outcome
from milton_assets.fleet.links import Unreachable
from milton_assets.fleet.targets import Targets
from milton_assets.vocabulary.errors import BadInput, one_of


def known_deployments(targets: Targets, wanted: str) -> Mapping[str, Deployment]:
    """Every deployment that a target or its mirror knows, by id; the target itself knows the one that is `wanted`.

    Raises `Unreachable` when a device that may know it cannot be asked, `JournalDamaged` when only a mirror knows it or
    the journal that should does not hold, `BadInput` when nobody knows it.
    """
    told: dict[str, Deployment] = {}
    mirrored: dict[str, Deployment] = {}
    damaged: list[JournalDamaged] = []
    away: list[Unreachable] = []
    for name in targets.names():
        mirrored |= {done.id: done for done in targets.mirrored(name)}
        target = targets.named(name)
        try:
            told |= {done.id: done for done in target.history()}
        except (JournalDamaged, NotATarget) as error:
            damaged.append(JournalDamaged(f"the target {name} at {target.url}: {error.problem}", remedy=error.remedy))
        except Unreachable as error:
            away.append(Unreachable(f"the target {name} at {target.url}: {error.problem}", remedy=error.remedy))
    if wanted in told:
        return mirrored | told
    if away:
        raise away[0]
    if damaged:
        raise damaged[0]
    if wanted in mirrored:
        target = targets.named(mirrored[wanted].target)
        raise JournalDamaged(
            f"the journal of the target {target.name} at {target.url} does not know {wanted}, which its mirror holds",
            remedy="restore it",
        )
    raise BadInput(
        f"there is no deployment {wanted!r:.100}",
        expected=one_of(sorted(told, reverse=True), 5) if told else "a deployment; nothing was ever deployed here",
        remedy="`milton history` lists them",
    )


def newest_deployment(targets: Targets) -> str:
    """The id of the deployment that ended last and stands, on any target. Raises `BadInput` when there is none, and as
    `Target.history` for a target whose journal does not hold: the newest may be there."""
    stood = [
        (done.finished_at, done.id)
        for target in targets.all()
        for done in target.history()
        if done.outcome is Outcome.COMMITTED and done.finished_at is not None
    ]
    if not stood:
        raise BadInput("nothing was ever deployed here", remedy="`milton deploy` takes a bundle to a target")
    return max(stood)[1]
