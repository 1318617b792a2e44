"""The devices of a rollout as they are: each task done by the target's own protocol, each answer by its own journal.

What belongs here: from a task to a target's verbs, and from what those return or raise to an answer. What does not:
what an answer means (`controller`), threads (`running`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from milton_assets.edge.deployment import Deployment, NeverDeployed
from milton_assets.fleet.links import Unreachable
from milton_assets.fleet.marks import TargetGone
from milton_assets.fleet.target import DeployRequest, RecoverRequest, RollbackRequest, Target
from milton_assets.rollout.controller import Answer, Away, Cannot, Entry, Said, Serves, Task, Tells, Verb
from milton_assets.rollout.plan import Plan
from milton_assets.vocabulary.errors import MiltonError

_Request = TypeVar("_Request", DeployRequest, RollbackRequest)


@dataclass(frozen=True)
class Devices:
    """The devices of a rollout, by name. `bundle` is the folder of the release, `actor` who changes them."""

    target: Callable[[str], Target]
    plan: Plan
    bundle: Path
    actor: str

    def do(self, task: Task) -> Answer:
        """Do the task; blocks until the device answered or was not reached. Raises nothing that a device causes."""
        try:
            target = self.target(task.device)
            if task.verb is Verb.LOOK:
                return Serves(_serving(target))
            if task.verb is Verb.ASK:
                return Tells(self._entry(target, task.deployment))
        except (Unreachable, TargetGone) as error:
            return Away(str(error))
        except (MiltonError, OSError) as error:
            return Cannot(str(error))
        try:
            if task.verb is Verb.DEPLOY:
                target.deploy(self.bundle, self._request(DeployRequest, task))
            else:
                target.rollback(self._request(RollbackRequest, task))
        except Unreachable as error:
            return Away(str(error))
        except (MiltonError, OSError) as error:
            return Said(str(error))
        return Said(None)

    def _request(self, kind: type[_Request], task: Task) -> _Request:
        """What the plan says of either way, in the words of that one."""
        plan = self.plan
        return kind(
            actor=self.actor,
            load_test=plan.load_test,
            health_rounds=plan.health_rounds,
            health_interval_s=plan.health_interval_s,
            deployment=task.deployment,
        )

    def _entry(self, target: Target, deployment: str | None) -> Entry | None:
        found = _find(target, deployment)
        if found is not None and found.finished_at is None and not target.status().locked:
            # Whoever worked on it is gone: the device settles what was cut off, and then says how that ended.
            target.recover(RecoverRequest(actor=self.actor))
            found = _find(target, deployment)
        if found is None:
            return None
        return Entry(found.outcome, found.release, len(found.health), found.reason, _serving(target))


def _find(target: Target, deployment: str | None) -> Deployment | None:
    return next((one for one in reversed(target.history()) if one.id == deployment), None)


def _serving(target: Target) -> str | None:
    try:
        active = target.status().active
    except NeverDeployed:
        return None
    return None if active is None else active.digest
