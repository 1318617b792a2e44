"""Bringing a challenger beside what a target serves, telling how it does, and ending it.

    plan = start_canary(bundle, target, request, now=clock)      # the gateway takes it up within a blink
    plan = watch_whole(target, request, now=clock)               # no challenger: the device is one arm of a fleet's
    told_of(target.path)
    stop_canary(target.path, canary, actor="ada", now=clock)

What belongs here: these, on a target's folder. What does not: serving it (`edge.serving.splitting`), and taking
it into service: that is a deployment like any other, once its verdict is `promote`.

The challenger passes every gate that a deployment passes before it is current: its documents, its signatures and the
device's policy, room and memory, and its bytes as they were written. What its users would miss if it does not work, the
canary itself has: it answers a probe before it gets a request, and what it fails goes to the incumbent or is counted.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from milton_assets.edge.canary.counts import Counts, Tally
from milton_assets.edge.canary.folder import CanaryFolder, canaries_of, running_canary
from milton_assets.edge.canary.plan import (
    MAX_REQUESTS,
    Arm,
    CanaryId,
    CanaryPlan,
    HeaderName,
    Margins,
    Recording,
    Way,
    check_canary_id,
)
from milton_assets.edge.canary.records import records_in
from milton_assets.edge.canary.verdict import CanaryVerdict, Judgement, Outcome, judge
from milton_assets.edge.canary.whole import Figures, figures_of
from milton_assets.edge.deployment.admission import PROVED, admission_of
from milton_assets.edge.deployment.capacity import Memory, NotEnoughMemory, check_memory, check_room, device_memory
from milton_assets.edge.deployment.copying import copy_release
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.layout import CANARY
from milton_assets.edge.deployment.session import Session, in_hand, judged_at
from milton_assets.edge.release import Folder, read_documents, verify_release
from milton_assets.edge.release.disk import opened
from milton_assets.vocabulary.digest import Sha256, sha256_bytes, short
from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.progress import OnProgress, silent

KEPT = 20
"""So many canaries that are over stay readable on a target; older ones are removed when another starts."""

Clock = Callable[[], datetime]


class CanaryRequest(BaseModel):
    """What `start_canary` is asked for; see `CanaryPlan`. `assume_memory` takes it on the caller's word that both
    models fit; with a `recording` the challenger is a shadow, which needs memory for one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    actor: str = Field(min_length=1, max_length=500)
    share: float = Field(default=0.1, ge=0.01, le=0.9)
    sticky_header: HeaderName | None = None
    sticky_s: float = Field(default=3600.0, ge=1)
    margins: Margins = Margins()
    assume_memory: bool = False
    recording: Recording | None = None
    wait_s: float = Field(default=0.0, ge=0)


class WholeRequest(BaseModel):
    """What `watch_whole` is asked for: which of the two releases this device serves, and how many requests tell."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    actor: str = Field(min_length=1, max_length=500)
    fleet: CanaryId
    arm: Arm
    challenger: Sha256
    challenger_version: Slug
    challenger_manifest_sha256: Sha256
    incumbent: Sha256
    incumbent_version: Slug
    share: float = Field(ge=0.01, le=0.9)
    requests: int = Field(ge=1, le=MAX_REQUESTS)
    margins: Margins = Margins()
    wait_s: float = Field(default=30.0, ge=0)


class CanaryTold(BaseModel):
    """A canary as its device tells of it: the plan, the counts so far, what they say, and the verdict once it is over.

    `journal_sha256` is the digest of the records that were counted, `figures` are those of a whole device.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: CanaryPlan
    counts: Counts
    judgement: Judgement
    journal_sha256: str = Field(pattern=r"[0-9a-f]{64}")
    verdict: CanaryVerdict | None = None
    figures: Figures | None = None


class NoCanary(BadInput):
    """A target on which no such canary was started."""


def start_canary(
    bundle: Path,
    target: EdgeTarget,
    request: CanaryRequest,
    *,
    now: Clock,
    goldens: bytes | None = None,
    memory: Callable[[], Memory] = device_memory,
    on_progress: OnProgress = silent,
) -> CanaryPlan:
    """Bring the release in the folder `bundle` beside the one in service, and plan how they are compared.

    `goldens` are golden questions, which whoever calls has read: answers to them are compared where users ask them.

    Raises `BadInput` when nothing is in service, a canary goes on, or the challenger is the incumbent; `NotAdmitted`,
    `NotEnoughMemory` and `NotEnoughRoom` with figures; `ReleaseDamaged`; and as `session.in_hand`.
    """
    ops = FileOps()
    with in_hand(target, ops, actor=request.actor, now=now, wait_s=request.wait_s) as session:
        incumbent = session.state.active
        if incumbent is None:
            raise BadInput(f"the target {target.name} serves nothing", expected="a release in service to compare with")
        _refuse_second(target)
        with Folder(bundle, ops) as source:
            documents = read_documents(source)
            manifest = documents.manifest
            if manifest.release_digest == incumbent:
                raise BadInput(
                    f"{manifest.name} is what {target.name} serves", expected="another release to compare it with"
                )
            verify_release(source, contents=False, known_by=documents).require()
            _admit(session, bundle, now())
            if not request.assume_memory and request.recording is None:
                _check_memory(manifest.requirements.ram_bytes, manifest.name, memory())
            if request.recording is not None:
                check_memory(memory(), manifest.requirements.ram_bytes, will_load=False)
            check_room(ops.free_bytes(session.folder), documents.needed_bytes)
            folder = CanaryFolder(target.path / CANARY / mint_canary(now()))
            _clear(target.path)
            folder.release.mkdir(parents=True)
            try:
                with opened(ops, ops.open_folder(folder.release)) as into:
                    copy_release(ops, source, into, documents, on_progress)
                    with Folder(folder.release, ops, beneath=into) as written:
                        verify_release(written, from_disk=True, one_name_each=True, known_by=documents).require()
            except BaseException:
                shutil.rmtree(folder.path, ignore_errors=True)
                raise
        if request.recording is not None:
            folder.make_key()
        pinned = None if goldens is None else folder.write_goldens(goldens)
        plan = CanaryPlan(
            way=Way.SPLIT if request.recording is None else Way.SHADOW,
            recording=request.recording,
            goldens=pinned,
            id=folder.id,
            target=target.name,
            challenger=manifest.release_digest,
            challenger_version=manifest.model_version,
            challenger_manifest_sha256=documents.manifest_sha256,
            incumbent=incumbent,
            incumbent_version=session.state.releases[incumbent].model_version,
            share=request.share,
            seed=secrets.token_hex(32),
            sticky_header=request.sticky_header,
            sticky_s=request.sticky_s,
            margins=request.margins,
            assume_memory=request.assume_memory,
            started_at=now(),
            actor=request.actor,
        )
        folder.write_plan(plan)
        return plan


def watch_whole(target: EdgeTarget, request: WholeRequest, *, now: Clock, goldens: bytes | None = None) -> CanaryPlan:
    """Record what the target serves from now on, as one arm of a comparison between whole devices.

    Raises `BadInput` when it serves another release than its arm's or a canary goes on, and as `session.in_hand`.
    """
    with in_hand(target, FileOps(), actor=request.actor, now=now, wait_s=request.wait_s) as session:
        _refuse_second(target)
        folder = CanaryFolder(target.path / CANARY / mint_canary(now()))
        plan = CanaryPlan(
            way=Way.WHOLE,
            id=folder.id,
            target=target.name,
            seed=secrets.token_hex(32),
            max_requests=request.requests,
            goldens=None if goldens is None else sha256_bytes(goldens),
            started_at=now(),
            **request.model_dump(exclude={"requests", "wait_s"}),
        )
        if session.state.active != plan.serves:
            raise BadInput(
                f"{target.name} serves {short(session.state.active or '') or 'nothing'}",
                expected=f"the release {short(plan.serves)}, as the {plan.arm}",
            )
        _clear(target.path)
        folder.path.mkdir(parents=True)
        if goldens is not None:
            folder.write_goldens(goldens)
        folder.write_plan(plan)
        return plan


def told_of(target: Path, canary: str | None = None) -> CanaryTold:
    """The canary of that id on the target in the folder `target`, by default the latest. Raises `NoCanary`."""
    return _told(_folder(target, canary))


def stop_canary(target: Path, canary: str | None = None, *, actor: str, now: Clock) -> CanaryTold:
    """End the canary, by default the latest, as it stands: `not_yet`, if its evidence has not said otherwise by now.

    One that is over is told as it ended. The gateway lets go of the challenger once it sees that. Raises `NoCanary`.
    """
    folder = _folder(target, canary)
    if not folder.is_over:
        end_canary(folder, folder.plan(), now=now, fact=f"{actor} stopped it")
    return _told(folder)


def end_canary(
    folder: CanaryFolder,
    plan: CanaryPlan,
    *,
    now: Clock,
    fact: str | None = None,
    outcome: Outcome | None = None,
    tally: Tally | None = None,
) -> CanaryVerdict:
    """End it by its evidence, or by a fact with its `outcome` (`not_yet` where none is given); the verdict that counts.

    Evidence that suffices goes before a fact without an outcome. `tally` is that of the journal, for whoever has kept
    it up; else it is read.
    """
    journal = folder.journal()
    counts = (tally or _tally_of(plan, journal)).counts()
    judgement = judge(plan, counts)
    if outcome is None and judgement.outcome is not Outcome.NOT_YET:
        fact = None
    verdict = folder.end(
        CanaryVerdict(
            canary=plan.id,
            outcome=outcome or judgement.outcome,
            reasons=judgement.reasons if fact is None else (fact[:2000],),
            fact=None if fact is None else fact[:2000],
            counts=counts,
            journal_bytes=len(journal),
            journal_sha256=sha256_bytes(journal),
            at=now(),
        )
    )
    folder.forget_recording()
    shutil.rmtree(folder.release, ignore_errors=True)  # what is left is removed when the next one starts
    return verdict


def _told(folder: CanaryFolder) -> CanaryTold:
    plan, verdict, journal = folder.plan(), folder.verdict(), folder.journal()
    if verdict is not None:
        journal = journal[: verdict.journal_bytes]
    counts, journal_sha256 = _tally_of(plan, journal).counts(), sha256_bytes(journal)
    records = records_in(journal, f"the records of {plan.id}") if plan.way is Way.WHOLE else ()
    if verdict is not None and (verdict.counts, verdict.journal_sha256) != (counts, journal_sha256):
        raise BadInput(
            f"the verdict in {folder.path} is not that of the records beside it",
            expected=f"records with the digest {verdict.journal_sha256}",
            remedy="somebody changed one of them; nothing can be concluded from this canary",
        )
    judgement = judge(plan, counts)
    return CanaryTold(
        plan=plan,
        counts=counts,
        judgement=judgement,
        journal_sha256=journal_sha256,
        verdict=verdict,
        figures=figures_of(counts, records),
    )


def _tally_of(plan: CanaryPlan, journal: bytes) -> Tally:
    tally = Tally(plan)
    tally.add_all(records_in(journal, f"the records of {plan.id}"))
    return tally


def _folder(target: Path, canary: str | None) -> CanaryFolder:
    if canary is not None:
        check_canary_id(canary)
    there = [one for one in canaries_of(target) if canary in {None, one.id}]
    if not there:
        raise NoCanary(
            f"{target} knows no canary{'' if canary is None else f' {canary}'}",
            expected="one that was started there",
            remedy="`milton canary start` starts one",
        )
    return there[-1]


def _refuse_second(target: EdgeTarget) -> None:
    if (going := running_canary(target.path)) is not None:
        raise BadInput(
            f"{going.id} goes on at {target.name}",
            expected="one canary at a time",
            remedy=f"`milton canary stop --target {target.name}` ends it",
        )


def _admit(session: Session, bundle: Path, now: datetime) -> None:
    state = session.state
    judged = judged_at(now, state.last_at, accept_clock=False)
    admission_of(session.target)(bundle, now=judged, highest_counter=state.highest_counter, trial=PROVED)


def _check_memory(needed_bytes: int, name: str, memory: Memory) -> None:
    if not needed_bytes:
        raise NotEnoughMemory(
            f"{name} does not say how much memory it needs, so nobody can say whether two models fit",
            expected="a manifest with `requirements.ram_bytes`",
            remedy="pass --assume-memory if you know that both fit",
        )
    if memory.available_bytes < needed_bytes:
        raise NotEnoughMemory(
            f"the device has {memory.available_bytes >> 20:,} MiB of memory available beside what runs, "
            f"the challenger needs {needed_bytes >> 20:,} MiB",
            expected="memory for both models",
            remedy="deploy it instead, which needs memory for one; or compare a smaller quantisation",
        )


def mint_canary(now: datetime) -> str:
    """An id for a canary that starts `now` (aware), which sorts after those of the milliseconds before."""
    at = now.astimezone(UTC)
    return f"canary_{at:%Y%m%d_%H%M%S}_{at.microsecond // 1000:03d}_{secrets.token_hex(3)}"


def _clear(target: Path) -> None:
    """Remove what canaries that are over no longer need, and what a start that was interrupted left."""
    over = [one.path for one in canaries_of(target)]
    for path in sorted((target / CANARY).iterdir()) if (target / CANARY).is_dir() else ():
        if path not in over or path in over[: max(0, len(over) - KEPT)]:
            shutil.rmtree(path, ignore_errors=True)
        else:
            shutil.rmtree(path / "release", ignore_errors=True)
