"""The verbs of a target: `deploy`, `rollback`, `recover_target`, `collect_garbage`, `reset_counter`.

What belongs here: taking the target into hand for each of them. What does not: how they are done (`attempt`,
`rehearsal`, `recovery`, `collection`, `counter_reset`).
"""

from __future__ import annotations

from pathlib import Path

from milton_assets.edge.deployment.admission import admission_of, trust_of
from milton_assets.edge.deployment.attempt import Attempt
from milton_assets.edge.deployment.borrowing import memory_at
from milton_assets.edge.deployment.capacity import Memory, device_memory
from milton_assets.edge.deployment.collection import Collection, collect, plan
from milton_assets.edge.deployment.counter_reset import checked_order
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.history import Deployment
from milton_assets.edge.deployment.layout import RELEASES
from milton_assets.edge.deployment.loadtest import LoadTest
from milton_assets.edge.deployment.recovery import recover
from milton_assets.edge.deployment.rehearsal import Rehearsal
from milton_assets.edge.deployment.safeguards import Admission, HealthWindow, Safeguards
from milton_assets.edge.deployment.session import Clock, Session, check_clock, check_owner, in_hand, read_target
from milton_assets.edge.deployment.states import CounterReset
from milton_assets.edge.disk_errors import disk_errors_explained
from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.fingerprint import GpuFingerprint
from milton_assets.vocabulary.inventory import Runtime
from milton_assets.vocabulary.progress import OnProgress, silent


def deploy(
    bundle: Path,
    target: EdgeTarget,
    *,
    load_test: LoadTest | None,
    actor: str,
    now: Clock,
    dry_run: bool = False,
    on_progress: OnProgress = silent,
    health: HealthWindow | None = None,
    admit: Admission | None = None,
    wait_s: float = 0.0,
    accept_clock: bool = False,
    memory: Memory | None = None,
    ops: FileOps | None = None,
    deployment_id: str | None = None,
    confirm_within_s: float = 0.0,
    runtime: Runtime | None = None,
    gpus: tuple[GpuFingerprint, ...] = (),
) -> Deployment:
    """Take the bundle in the folder `bundle` into service on `target`; its history entry, committed.

    `load_test` serves the staged model before it becomes current, `health` watches it afterwards; None skips either,
    and a release that passed neither is not called known good. The device's policy, `device-policy.yaml` in the target,
    is asked whenever it is there; `admit` is asked besides. `wait_s` is how long to wait for another deployer;
    `accept_clock` accepts a clock that is behind the journal. `memory` and `ops` are the device's memory and disk, by
    default this machine's; `runtime` is the model server that it would serve with (None is not looked at), on `gpus`.
    With `dry_run` everything is checked, on the bundle where it lies, nothing is changed, and the entry's outcome is
    `would_commit`. `deployment_id` is the caller's own id for the attempt, by default a new one; with
    `confirm_within_s` the caller has to come back (`confirmation`) so many seconds after the activation at most, or the
    target goes back.

    Raises `DeploymentFailed`, with the entry, when the attempt did not stand: the target then serves what it served
    before, or the last known good release. Raises `TargetBusy`, `NotATarget`, `JournalDamaged`, `ClockSetBack` or
    `DiskFailed` when no attempt could begin. A dry run raises what is wrong as it is.
    """
    ops = ops or FileOps()
    bundle = bundle.absolute()

    def safeguards() -> Safeguards:
        policies = (admission_of(target), *([] if admit is None else [admit]))
        # A dry run changes nothing: it takes no memory from what serves.
        has = memory or (device_memory() if dry_run else memory_at(target.path))
        return Safeguards(load_test, health, policies, on_progress, has, confirm_within_s, runtime, gpus)

    with disk_errors_explained():
        if dry_run:
            rehearsal = Rehearsal(target, safeguards(), actor=actor, now=now, accept_clock=accept_clock, ops=ops)
            return rehearsal.deploy(bundle)
        with in_hand(target, ops, actor=actor, now=now, wait_s=wait_s, create=True) as session:
            _recover(session)
            if not accept_clock:
                check_clock(session.state, now())
            # Read under the lock: what its owner wrote while we waited for another deployer binds us too.
            return Attempt(session, safeguards(), actor, accept_clock=accept_clock, deployment_id=deployment_id).deploy(
                bundle
            )


def rollback(
    target: EdgeTarget,
    *,
    actor: str,
    now: Clock,
    load_test: LoadTest | None = None,
    dry_run: bool = False,
    on_progress: OnProgress = silent,
    health: HealthWindow | None = None,
    wait_s: float = 0.0,
    memory: Memory | None = None,
    ops: FileOps | None = None,
    deployment_id: str | None = None,
    confirm_within_s: float = 0.0,
) -> Deployment:
    """Go back to the release before the one in service, verified whole first; its history entry, committed.

    The device's policy is asked as for a deployment, but for age: an expired or older release is taken back, one that
    is signed by a key that the device no longer trusts is not. A clock that was set back does not stop a rollback.
    Parameters and errors otherwise as for `deploy`.
    """
    ops = ops or FileOps()

    def safeguards() -> Safeguards:
        policies = (admission_of(target),)
        has = memory or (device_memory() if dry_run else memory_at(target.path))
        return Safeguards(load_test, health, policies, on_progress, has, confirm_within_s)

    with disk_errors_explained():
        if dry_run:
            return Rehearsal(target, safeguards(), actor=actor, now=now, accept_clock=True, ops=ops).roll_back()
        with in_hand(target, ops, actor=actor, now=now, wait_s=wait_s) as session:
            _recover(session)
            return Attempt(session, safeguards(), actor, deployment_id=deployment_id).roll_back()


def recover_target(
    target: EdgeTarget,
    *,
    actor: str,
    now: Clock,
    wait_s: float = 0.0,
    adopt: bool = False,
    ops: FileOps | None = None,
) -> tuple[str, ...]:
    """Settle what a crash left behind, as every other verb does first; what had to be done, a sentence each.

    With `adopt`, take the target over from the state folder that it belongs to.
    """
    with (
        disk_errors_explained(),
        in_hand(target, ops or FileOps(), actor=actor, now=now, wait_s=wait_s, adopt=adopt) as session,
    ):
        return recover(session)


def reset_counter(
    target: EdgeTarget,
    order: bytes,
    signature: bytes,
    *,
    actor: str,
    now: Clock,
    wait_s: float = 0.0,
    ops: FileOps | None = None,
) -> CounterReset:
    """Take the target's highest counter back, as a `counter_order` says that the keys whom the device believes signed.

    What was recorded is returned. Raises `BadInput` for an order that does not hold, is for another target or was
    carried out before, `SignatureInvalid`, and `NotAdmitted` when the device does not trust the key.
    """
    with disk_errors_explained(), in_hand(target, ops or FileOps(), actor=actor, now=now, wait_s=wait_s) as session:
        _recover(session)
        record = checked_order(session.journal.lines, session.state, trust_of(target), order, signature, actor, now())
        session.journal.append(record)
        return record


def collect_garbage(
    target: EdgeTarget,
    *,
    actor: str,
    now: Clock,
    keep: int = 0,
    dry_run: bool = False,
    wait_s: float = 0.0,
    ops: FileOps | None = None,
) -> Collection:
    """Free every release but the active, the last known good, and the `keep` before the active one; what was freed.

    With `dry_run` only says what it would free. Raises `BadInput` for a negative `keep` or a target that is not there.
    """
    if keep < 0:
        raise BadInput(f"asked to keep {keep} releases", expected="0 or more")
    ops = ops or FileOps()
    with disk_errors_explained():
        if dry_run:
            state = read_target(target, ops).state
            check_owner(target, state)
            return plan(target.name, target.path / RELEASES, state, keep=keep, dry_run=True)
        with in_hand(target, ops, actor=actor, now=now, wait_s=wait_s) as session:
            recover(session)
            return collect(session, actor=actor, keep=keep)


def _recover(session: Session) -> None:
    for sentence in recover(session):
        session.note(sentence)
