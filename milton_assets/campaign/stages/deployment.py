"""The stage that takes bundles to their targets: to one at once, to several of a class by a rollout.

What belongs here: which targets are left, and a rollout's child runs, a wave each. What does not: when a rollout's next
wave is due (`milton_assets.rollout.turns`), and deploying (`milton_assets.edge.deployment`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from milton_assets.campaign.children import Child, run_child
from milton_assets.campaign.under_way import NotDone, UnderWay
from milton_assets.jobs import DEPLOY, DEPLOYMENT_ASSET, ROLL_OUT, ROLLOUT_ASSET
from milton_assets.partitions import EDGE_TARGETS, ROLLOUTS
from milton_assets.rollout.states import Stage
from milton_assets.rollout.turns import next_turn
from milton_assets.selection.summary import read_summary
from milton_assets.usecases.rollouts import names_of, rollout_of
from milton_assets.vocabulary.keys import rollout_of_run


def deploy(campaign: UnderWay) -> list[NotDone]:
    """Take each bundle there is to every target of its run that has not got it: to several of a class gradually,
    as the class's settings plan it. What failed, or waits for a person."""
    failed: list[NotDone] = []
    for run_id in campaign.decided:
        summary = read_summary(campaign.store.runs, run_id)
        there = {deployment.target for deployment in summary.deployments}
        for device_class, targets in campaign.settings.classes_of(run_id).items() if summary.bundle else ():
            if len(targets) > 1:
                failed += _roll_out(campaign, run_id, device_class)
            elif targets[0] not in there:
                failed += _deploy_to(campaign, run_id, targets[0])
    return failed


def _deploy_to(campaign: UnderWay, run_id: str, target: str) -> Iterator[NotDone]:
    """Take the run's bundle to that target; what keeps it from there."""
    campaign.say(f"{run_id}: deploying to {target}")
    ops = {DEPLOYMENT_ASSET: {"config": {"run_id": run_id}}}
    if not run_child(campaign, Child(DEPLOY, target, EDGE_TARGETS, ops=ops)):
        yield NotDone(
            f"deployment failed on {target}; nothing there was changed",
            f"milton deploy --run {run_id} --target {target}",
        )


def _roll_out(campaign: UnderWay, run_id: str, device_class: str) -> Iterator[NotDone]:
    """Take the run's bundle to the targets of the class, a child run a wave, as far as something can be done now;
    what keeps it from its end."""
    name, state_dir = rollout_of_run(run_id, device_class), campaign.settings.state
    ops = {ROLLOUT_ASSET: {"config": {"run_id": run_id, "device_class": device_class}}}
    last_turn = None
    while True:
        state = rollout_of(state_dir, name) if name in names_of(state_dir) else None
        due = next_turn(state, last_turn, datetime.now(UTC)) if state else datetime.now(UTC)
        if due is None or due > datetime.now(UTC):
            break
        wave = f"wave {state.wave + 1} of {len(state.plan.waves)}" if state else "its first wave"
        campaign.say(f"{run_id}: rollout {name}, {wave}, to targets of the class {device_class}")
        if not run_child(campaign, Child(ROLL_OUT, name, ROLLOUTS, ops=ops)):
            yield NotDone(f"a wave of the rollout {name} failed", f"milton rollout resume {name}")
            return
        last_turn = datetime.now(UTC)
    if state is None or state.stage is Stage.DONE:
        return
    if due is not None:
        campaign.say(
            f"{run_id}: the rollout {name} waits for {state.undecided} targets until {due:%Y-%m-%d %H:%M} UTC; the "
            f"daemon goes on then, or `milton rollout resume {name}`"
        )
        return
    yield NotDone(
        f"the rollout {name} is {state.stage}: {state.why}",
        f"milton rollout status {name}, then milton rollout resume or abort {name}",
    )
