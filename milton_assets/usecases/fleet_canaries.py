"""A canary over a fleet: whole devices are the arms. Drawn, brought there by a rollout, asked, judged, ended.

    plan = plan_arms(reach, bundle, WantedArms(share=0.25), actor="ada")
    go_on(reach, plan.id, actor="ada")            # the rollout to the challengers, then every device records
    look(reach, plan.id)                          # what they told by now, and what it says
    stop(reach, plan.id, actor="ada")             # without a verdict to promote, the challengers' devices go back

What belongs here: these steps over rollouts, targets and the state folder. What does not: the comparison
(`milton_assets.rollout.arms`), and what a device records (`milton_assets.edge.canary`).

Each step can be repeated: whoever is killed in the middle of one is followed by another that goes on.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from milton_assets.edge.canary.plan import Arm, Margins
from milton_assets.edge.canary.starting import CanaryTold, NoCanary, WholeRequest, mint_canary
from milton_assets.edge.canary.verdict import Judgement, Outcome
from milton_assets.edge.release import Folder, read_documents
from milton_assets.fleet.canaries import check_told
from milton_assets.fleet.many import ask_each
from milton_assets.fleet.target import Target
from milton_assets.rollout.arms import (
    Block,
    Candidate,
    FleetPlan,
    blocks_needed,
    drawn_blocks,
    judge_fleet,
    size_of_blocks,
)
from milton_assets.rollout.arms_kept import (
    DeviceTold,
    FleetVerdict,
    KeptFleetVerdict,
    figures_in,
    keep_verdict,
    kept_verdict,
    read_plan,
    write_plan,
)
from milton_assets.rollout.plan import Opens
from milton_assets.rollout.states import Phase, Rollout, Stage
from milton_assets.usecases import rollouts
from milton_assets.usecases.canaries import canaries_on
from milton_assets.usecases.rollouts import Reach, Wanted
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput, MiltonError

ASK_WITHIN_S = 60.0
_OVER = frozenset({Stage.DONE, Stage.ABORTED, Stage.STOPPED})


@dataclass(frozen=True)
class WantedArms:
    """What a person wants of a comparison between devices: which (every one where none is named), which share of them
    gets the challenger, and how many requests of each tell. `rollout` is how the challenger gets there."""

    share: float = 0.25
    requests: int = 200
    margins: Margins = field(default_factory=Margins)
    goldens: bytes | None = None
    rollout: Wanted = field(default_factory=lambda: Wanted(opens=Opens.ALL_WELL))


@dataclass(frozen=True)
class Standing:
    """How a comparison stands: the rollout's stage, what each device told, why others did not, what is said by now, and
    how it ended once it has."""

    plan: FleetPlan
    stage: Stage
    told: dict[str, DeviceTold]
    silent: dict[str, str]
    judgement: Judgement
    kept: KeptFleetVerdict | None = None


def plan_arms(reach: Reach, bundle: Path, wanted: WantedArms, *, actor: str) -> FleetPlan:
    """Draw the arms and plan the rollout of the bundle to the challengers' devices; nothing begins.

    Raises `BadInput` for devices that do not answer or serve it already, and for so few that nothing could be shown.
    """
    with Folder(bundle) as folder:
        documents = read_documents(folder)
    release = documents.manifest.release_digest
    candidates = list(_candidates(reach, wanted.rollout, release))
    seed, now = secrets.token_hex(32), datetime.now(UTC)
    blocks, left_out = drawn_blocks(candidates, share=wanted.share, seed=seed)
    size, alpha = size_of_blocks(wanted.share), float(FleetPlan.model_fields["alpha"].default)
    needed = blocks_needed(wanted.share, alpha, goldens=wanted.goldens is not None)
    if len(blocks) < needed:
        raise BadInput(
            f"{len(candidates)} devices make {len(blocks)} blocks of {size} of one class and release, and the evidence "
            f"takes {needed} blocks at least",
            expected=f"{needed * size} devices of one class that serve the same, or another share",
            remedy="compare on each device by itself (without --class and --over), or name more devices",
        )
    plan = FleetPlan(
        id=mint_canary(now),
        challenger=release,
        challenger_version=documents.manifest.model_version,
        challenger_manifest_sha256=documents.manifest_sha256,
        blocks=blocks,
        left_out=left_out,
        share=wanted.share,
        seed=seed,
        requests=wanted.requests,
        margins=wanted.margins,
        goldens=None if wanted.goldens is None else sha256_bytes(wanted.goldens),
        alpha=alpha,
        started_at=now,
        actor=actor,
    )
    to_challengers = replace(wanted.rollout, names=plan.challengers, late=False)
    rollouts.plan_rollout(reach, plan.id, bundle, to_challengers, actor=actor)
    write_plan(rollouts.folder_of(reach.state, plan.id), plan, wanted.goldens)
    return plan


def _candidates(reach: Reach, wanted: Wanted, release: str) -> list[Candidate]:
    targets = reach.targets()
    there = [member.name for member in rollouts.members_of(targets, wanted.device_class)]
    if not there and wanted.device_class is not None:
        classes = sorted({targets.device_class(name) for name in targets.names()})
        raise BadInput(
            f"there is no target of class {wanted.device_class}",
            expected=f"one of {', '.join(classes)}" if classes else "a target",
            remedy="`milton target list` shows them",
        )
    if unknown := set(wanted.names) - set(there):
        raise BadInput(f"there is no target {', '.join(sorted(unknown))}", expected=", ".join(there) or "a target")
    opened = [targets.named(name) for name in there if not wanted.names or name in wanted.names]
    for target in opened:
        canaries_on(target)
    found = []
    for target, status in zip(opened, ask_each(opened, lambda one: one.status(), within_s=ASK_WITHIN_S), strict=True):
        if isinstance(status, MiltonError):
            raise BadInput(
                f"{target.name} does not say what it serves: {status.problem}",
                expected="devices that answer when they are drawn",
                remedy="leave it out: name the others with --over",
            )
        if status.active is None or status.active.digest == release:
            serves = "nothing" if status.active is None else "that release already"
            raise BadInput(f"{target.name} serves {serves}", expected="devices that serve another release")
        found.append(
            Candidate(
                name=target.name,
                device_class=targets.device_class(target.name),
                release=status.active.digest,
                model_version=status.active.model_version,
            )
        )
    return found


def go_on(reach: Reach, canary: str, *, actor: str, heard: rollouts.Heard = rollouts.silent) -> Rollout:
    """Take the challenger to its devices, or go on with that; once that is over, have every device record.

    Raises `BadInput` for devices that do not begin to record, once the others do.
    """
    plan, goldens = read_plan(rollouts.folder_of(reach.state, canary))
    state = rollouts.rollout_of(reach.state, canary)
    if state.stage is Stage.PLANNED:
        state = rollouts.start(reach, canary, actor=actor, heard=heard)
    elif state.stage not in _OVER:
        state = rollouts.resume(reach, canary, actor=actor, heard=heard)
    if state.stage is Stage.DONE:
        _record(reach, plan, state, goldens, actor)
    return state


def _record(reach: Reach, plan: FleetPlan, state: Rollout, goldens: bytes | None, actor: str) -> None:
    targets, lost = reach.targets(), lost_in(plan, state)
    arms = [(targets.named(name), arm, block) for name, arm, block in plan.arms() if block.challenger not in lost]
    of = {target.name: (arm, block) for target, arm, block in arms}

    def watch(target: Target) -> None:
        arm, block = of[target.name]
        if _told_by(target, plan, arm) is None:
            canaries_on(target).canary_watch(_request(plan, arm, block, actor), goldens=goldens)

    opened = [target for target, _, _ in arms]
    problems = [
        f"{target.name}: {answer.problem}"
        for target, answer in zip(opened, ask_each(opened, watch, within_s=ASK_WITHIN_S), strict=True)
        if isinstance(answer, MiltonError)
    ]
    if problems:
        raise BadInput(
            f"{len(problems)} of {len(opened)} devices do not record: {'; '.join(problems)[:1500]}",
            expected="every device that is compared",
            remedy=f"`milton canary resume {plan.id}` asks them again",
        )


def _request(plan: FleetPlan, arm: Arm, block: Block, actor: str) -> WholeRequest:
    return WholeRequest(
        actor=actor,
        fleet=plan.id,
        arm=arm,
        challenger=plan.challenger,
        challenger_version=plan.challenger_version,
        challenger_manifest_sha256=plan.challenger_manifest_sha256,
        incumbent=block.incumbent,
        incumbent_version=block.incumbent_version,
        share=plan.share,
        requests=plan.requests,
        margins=plan.margins,
    )


def lost_in(plan: FleetPlan, state: Rollout) -> tuple[str, ...]:
    """The challengers' devices on which the release did not stand; none while the rollout goes on."""
    if state.stage not in _OVER:
        return ()
    return tuple(name for name in plan.challengers if state.devices[name].phase is not Phase.STOOD)


def _told_by(target: Target, plan: FleetPlan, arm: Arm) -> CanaryTold | None:
    """What the target tells of its arm of that comparison; None where it has not begun to record."""
    try:
        told = canaries_on(target).canary_told()
    except NoCanary:
        return None
    if (told.plan.fleet, told.plan.arm) != (plan.id, arm):
        return None
    check_told(told)
    return told


def look(reach: Reach, canary: str) -> Standing:
    """What the devices told by now, and what it says; a verdict is kept, signed. Raises `BadInput`,
    `EvidenceMismatch`."""
    folder = rollouts.folder_of(reach.state, canary)
    plan, _ = read_plan(folder)
    state = rollouts.rollout_of(reach.state, canary)
    if (kept := kept_verdict(folder)) is not None:
        ended = kept.verdict
        return Standing(plan, state.stage, ended.told, {}, ended.judged(), kept)
    told, silent = _heard(reach, plan) if state.stage is Stage.DONE else ({}, {})
    lost = lost_in(plan, state)
    judgement, fact = judge_fleet(plan, figures_in(told), lost), None
    if state.stage in {Stage.STOPPED, Stage.ABORTED, Stage.ABORTING}:
        fact = f"its rollout is {state.stage}: {state.why}"[:2000]
    if fact is not None or judgement.outcome is not Outcome.NOT_YET:
        outcome = Outcome.GO_BACK if fact is not None else judgement.outcome
        kept = _keep(reach, plan, told, lost, outcome, judgement.reasons if fact is None else (fact,), fact)
    return Standing(plan, state.stage, told, silent, judgement, kept)


def _heard(reach: Reach, plan: FleetPlan) -> tuple[dict[str, DeviceTold], dict[str, str]]:
    targets, arms = reach.targets(), {name: arm for name, arm, _ in plan.arms()}
    opened = [targets.named(name) for name in arms]
    answers = ask_each(opened, lambda one: _told_by(one, plan, arms[one.name]), within_s=ASK_WITHIN_S)
    told, silent = {}, {}
    for target, answer in zip(opened, answers, strict=True):
        if isinstance(answer, MiltonError):
            silent[target.name] = answer.problem
        elif answer is None:
            silent[target.name] = "it does not record"
        else:
            told[target.name] = DeviceTold(
                arm=arms[target.name],
                canary=answer.plan.id,
                figures=answer.figures,
                journal_sha256=answer.journal_sha256,
            )
            ended, requests = answer.verdict, 0 if answer.figures is None else answer.figures.requests
            if ended is not None and ended.fact is not None and requests < plan.requests:
                silent[target.name] = ended.fact
    return told, silent


def _keep(
    reach: Reach,
    plan: FleetPlan,
    told: dict[str, DeviceTold],
    lost: tuple[str, ...],
    outcome: Outcome,
    reasons: tuple[str, ...],
    fact: str | None,
) -> KeptFleetVerdict:
    verdict = FleetVerdict(
        plan=plan, told=told, lost=lost, outcome=outcome, reasons=reasons, fact=fact, at=datetime.now(UTC)
    )
    return keep_verdict(reach.state, rollouts.folder_of(reach.state, plan.id), verdict)


def stop(reach: Reach, canary: str, *, actor: str, heard: rollouts.Heard = rollouts.silent) -> Standing:
    """End it: by its verdict, or as it stands. Unless the verdict is promote, the challengers' devices go back to where
    they were, and where it is, they stay. Raises as `look`."""
    standing = look(reach, canary)
    plan, kept = standing.plan, standing.kept
    targets = reach.targets()
    opened = [targets.named(name) for name in standing.told]
    ask_each(opened, lambda one: canaries_on(one).canary_stop(actor=actor), within_s=ASK_WITHIN_S)
    if kept is None:
        state = rollouts.rollout_of(reach.state, canary)
        lost = lost_in(plan, state)
        fact = f"{actor} stopped it"
        kept = _keep(reach, plan, standing.told, lost, Outcome.NOT_YET, (fact,), fact)
    stage = standing.stage
    if kept.verdict.outcome is not Outcome.PROMOTE and stage is not Stage.ABORTED:
        why = f"{canary}: {'; '.join(kept.verdict.reasons)}"[:1000]
        done = rollouts.abort(reach, canary, actor=actor, reason=why, heard=heard)
        stage = stage if done is None else done.stage
    return Standing(plan, stage, standing.told, standing.silent, standing.judgement, kept)
