"""Canaries on targets, wherever they are, and what is kept here of how they ended.

    target.canary_start(bundle, CanaryRequest(actor="ada"))
    target.canary_told()
    keep(state, field_verdict(target, told, now))      # signed with the key of `milton keys init`

What belongs here: the part of the targets' protocol that speaks of canaries, and field evidence: a canary's verdict
with its plan and counts, as a document with a signature. What does not: the comparison (`edge.canary`) and who asks for
it.

What a device tells is not taken for granted: the counts are judged again here, and a verdict by evidence that they do
not lead to is refused. What is kept once is never changed: a device that tells otherwise later is told apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol, runtime_checkable

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from milton_assets.edge.bundle.key_lists import KeyLists
from milton_assets.edge.bundle.keys import KeyFiles, load_private_key, load_public_key
from milton_assets.edge.canary.plan import CanaryPlan, check_canary_id
from milton_assets.edge.canary.starting import CanaryRequest, CanaryTold, WholeRequest
from milton_assets.edge.canary.verdict import Outcome, judge
from milton_assets.edge.release.sshsig import SignatureInvalid, fingerprint, sign, verify
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.files import entries, write_atomic
from milton_assets.vocabulary.format_version import of_this_version
from milton_assets.vocabulary.keys import Slug, check_key
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.state import StateDir

FIELD_VERSION: Final = 2
NAMESPACE: Final = "milton-field-verdict"
"""What the signature of a field verdict is made for: one for anything else counts for nothing."""
_MAX_BYTES = 256 << 10


@runtime_checkable
class RunsCanaries(Protocol):
    """A target whose gateway can compare a release with the one in service."""

    def canary_start(
        self, bundle: Path, request: CanaryRequest, *, goldens: bytes | None = None, on_progress: OnProgress = silent
    ) -> CanaryPlan:
        """Bring the bundle in the folder `bundle` of this machine beside what it serves; see `start_canary`.

        `goldens` is a sheet of golden questions (`tiers.reasoning.marking`); a sheet that is none is refused.
        """
        ...

    def canary_watch(self, request: WholeRequest, *, goldens: bytes | None = None) -> CanaryPlan:
        """Record what it serves, as one arm of a comparison between whole devices; see `watch_whole`."""
        ...

    def canary_told(self, canary: str | None = None) -> CanaryTold:
        """How a canary does, or did; None is the latest. Raises `NoCanary`."""
        ...

    def canary_stop(self, canary: str | None = None, *, actor: str) -> CanaryTold:
        """End it as it stands. Raises `NoCanary`."""
        ...


class FieldVerdict(BaseModel):
    """How a canary on a target ended, as field evidence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[2] = FIELD_VERSION
    target: Slug
    url: str = Field(max_length=4096)
    told: CanaryTold
    kept_at: AwareDatetime

    @model_validator(mode="before")
    @classmethod
    def _of_this_version(cls, given: Any) -> Any:
        return of_this_version(given, what="field verdict", field="version", version=FIELD_VERSION)

    def concerns(self, release: str) -> bool:
        """Whether that release was one of the two."""
        return release in {self.told.plan.challenger, self.told.plan.incumbent}

    @property
    def said(self) -> str:
        """In one sentence."""
        plan, verdict = self.told.plan, self.told.verdict
        ours, theirs = self.told.counts.challenger, self.told.counts.incumbent
        outcome, why = ("not over", "") if verdict is None else (verdict.outcome, "; ".join(verdict.reasons))
        return (
            f"{outcome} {plan.challenger_version} beside {plan.incumbent_version} on {self.target}, "
            f"{ours.requests} and {theirs.requests} requests, {ours.erred} and {theirs.erred} errors: {why}"
        )


@dataclass(frozen=True)
class KeptVerdict:
    """A field verdict as it is kept: its file, its bytes' digest, and the key that signed it (None: nobody did)."""

    path: Path
    sha256: str
    verdict: FieldVerdict
    signer: str | None


@dataclass(frozen=True)
class DoesNotHold:
    """Field evidence that is kept and cannot be believed: which canary's, its file, and why."""

    canary: str
    path: Path
    why: str


def check_told(told: CanaryTold) -> None:
    """Raise `EvidenceMismatch` unless what a device tells of a canary follows from the counts that it tells."""
    judged = judge(told.plan, told.counts)
    problems = []
    if judged.outcome is not told.judgement.outcome:
        problems.append(f"it judges {told.judgement.outcome}, its counts say {judged.outcome}")
    if (verdict := told.verdict) is not None:
        if (verdict.counts, verdict.canary) != (told.counts, told.plan.id):
            problems.append("its verdict is that of other counts")
        if verdict.fact is None and verdict.outcome is not judged.outcome:
            problems.append(f"its verdict is {verdict.outcome}, its counts say {judged.outcome}")
        if verdict.fact is not None and verdict.outcome is Outcome.PROMOTE:
            problems.append("it promotes by a fact, not by evidence")
        if verdict.journal_sha256 != told.journal_sha256:
            problems.append("its verdict is that of other records")
    if problems:
        raise EvidenceMismatch(
            f"{told.plan.id} on {told.plan.target}: {'; '.join(problems)}",
            expected="a verdict that follows from its counts",
            remedy="somebody changed its files, or the device does not run this milton's agent",
        )


def keep(state: StateDir, verdict: FieldVerdict) -> KeptVerdict:
    """Keep it in `state.field`, signed if there is a key; one that is kept already stays as it is.

    Raises `EvidenceMismatch` when what is told does not hold, or is not what was kept; `BadInput` for a key that cannot
    be used.
    """
    told = verdict.told
    check_told(told)
    if told.verdict is None:
        raise BadInput(f"{told.plan.id} goes on", expected="a canary that is over")
    path = verdict_file(state, verdict.target, told.plan.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent / ".lock", timeout_s=30):
        if path.exists():
            kept = _read(path)
            # A device judges again whenever it is asked; the last digits of a logarithm are its processor's.
            if (kept.verdict.told.plan, kept.verdict.told.verdict) != (told.plan, told.verdict):
                raise EvidenceMismatch(
                    f"{verdict.target} tells otherwise of {told.plan.id} than it did when {path} was written",
                    expected="the same verdict for ever",
                    remedy="its files were changed since; what is kept here stays",
                )
            return kept
        raw = verdict.model_dump_json(indent=1).encode()
        write_signed(state, path, raw)
        return _read(path)


def write_signed(state: StateDir, path: Path, raw: bytes) -> None:
    """Write field evidence, its signature first, if there is a key to sign with."""
    private = KeyFiles(state.keys).private
    if private.exists():
        write_atomic(_signature(path), sign(raw, load_private_key(private), NAMESPACE))
    write_atomic(path, raw)


def signer_of(path: Path, raw: bytes) -> str | None:
    """Whose key signed the field evidence in the file at `path`; None where nobody did. Raises `SignatureInvalid`."""
    try:
        return fingerprint(verify(_signature(path).read_bytes(), raw, NAMESPACE))
    except FileNotFoundError:
        return None


def kept_verdicts(state: StateDir, release: str | None = None) -> Iterator[KeptVerdict | DoesNotHold]:
    """What is kept, oldest first; of `release` alone where one is named, and whatever does not hold: whose that was
    cannot be known."""
    there = (path for target in entries(state.field) if target.is_dir() for path in entries(target))
    found = [path for path in there if path.name.startswith("canary_") and path.suffix == ".json"]
    for path in sorted(found, key=lambda path: path.name):
        try:
            kept = _read(path)
        except EvidenceMismatch as error:
            yield DoesNotHold(path.stem, path, str(error))
            continue
        if release is None or kept.verdict.concerns(release):
            yield kept


def problems_of(state: StateDir, kept: KeptVerdict) -> Iterator[str]:
    """What is wrong with a kept verdict: counts that do not lead to it, a signer whom nobody here believes."""
    try:
        check_told(kept.verdict.told)
    except EvidenceMismatch as error:
        yield str(error)
    yield from signature_problems(state, kept.path, kept.signer)


def signature_problems(state: StateDir, path: Path, signer: str | None) -> Iterator[str]:
    """What is wrong with the signer of the field evidence in the file at `path`."""
    if signer is None:
        if KeyFiles(state.keys).private.exists():
            yield f"{path} bears no signature, although there is a key to sign with"
    elif signer not in _believed(state):
        yield f"{path} is signed by {signer}, which is none of this state folder's keys"


def _believed(state: StateDir) -> frozenset[str]:
    """The fingerprints of every key that this state folder ever named, but for those that it revoked."""
    lists = KeyLists(state.keys)
    if not KeyFiles(state.keys).public.exists():
        return frozenset()
    trust, own = lists.trust(), fingerprint(load_public_key(KeyFiles(state.keys).public))
    ever = frozenset({own}).union(trust.keys, *(one.parsed().fingerprints for one in lists.chain()))
    return ever - {one.fingerprint for one in trust.revoked}


def verdict_file(state: StateDir, target: str, canary: str) -> Path:
    """Where the verdict of that canary is kept. Raises `BadInput` for names that are none."""
    return state.field / check_key(target, "target name") / f"{check_canary_id(canary)}.json"


def _signature(path: Path) -> Path:
    return path.with_name(f"{path.name}.sig")


def _read(path: Path) -> KeptVerdict:
    with path.open("rb") as stream:
        raw = stream.read(_MAX_BYTES + 1)
    try:
        verdict = FieldVerdict.model_validate_json(raw)
        signer = signer_of(path, raw)
    except (ValidationError, SignatureInvalid) as error:
        raise EvidenceMismatch(
            f"{path} does not hold: {error!s:.300}",
            expected="a field verdict as it was kept, and its signature",
            remedy="restore it from a backup, or remove it and its signature: `milton canary status` asks the device",
        ) from None
    return KeptVerdict(path, sha256_bytes(raw), verdict, signer)


def field_verdict(target: str, url: str, told: CanaryTold, now: datetime) -> FieldVerdict:
    """What `target` tells, as field evidence."""
    return FieldVerdict(target=target, url=url, told=told, kept_at=now)
