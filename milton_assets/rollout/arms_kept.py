"""What is kept of a comparison between devices: its plan, and how it ended, signed; in its rollout's folder.

    arms.json             written once, when its rollout is planned
    goldens.jsonl         the golden questions that its devices take, where it has such
    arms_verdict.json     written once, with a signature beside it as other field evidence has

What belongs here: those files, and holding a verdict against its figures. What does not: the comparison (`arms`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from milton_assets.edge.canary.plan import Arm, CanaryId, check_canary_id
from milton_assets.edge.canary.verdict import Judgement, Outcome
from milton_assets.edge.canary.whole import Figures
from milton_assets.edge.release.sshsig import SignatureInvalid
from milton_assets.fleet.canaries import DoesNotHold, signer_of, write_signed
from milton_assets.rollout.arms import FleetPlan, judge_fleet
from milton_assets.vocabulary.digest import Sha256, sha256_bytes
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.files import entries, write_atomic
from milton_assets.vocabulary.format_version import of_this_version
from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.state import StateDir

PLAN_FILE = "arms.json"
GOLDENS_FILE = "goldens.jsonl"
VERDICT_FILE = "arms_verdict.json"
VERDICT_VERSION: Final = 1
_MAX_BYTES = 16 << 20


class DeviceTold(BaseModel):
    """What a device told of its arm: its own canary, its figures and the digest of the records behind them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: Arm
    canary: CanaryId
    figures: Figures | None
    journal_sha256: Sha256


class FleetVerdict(BaseModel):
    """How a comparison between devices ended: by what they told, or by a `fact`, such as a rollout that stopped.

    `lost` are the challengers' devices that never got the release.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = VERDICT_VERSION
    plan: FleetPlan
    told: dict[Slug, DeviceTold]
    lost: tuple[Slug, ...]
    outcome: Outcome
    reasons: tuple[str, ...] = Field(max_length=20)
    fact: str | None = Field(default=None, max_length=2000)
    at: AwareDatetime

    @model_validator(mode="before")
    @classmethod
    def _of_this_version(cls, given: Any) -> Any:
        return of_this_version(given, what="verdict of a fleet's canary", field="version", version=VERDICT_VERSION)

    def concerns(self, release: str) -> bool:
        """Whether that release was one of those that were compared."""
        return release in {self.plan.challenger, *(block.incumbent for block in self.plan.blocks)}

    @property
    def said(self) -> str:
        """In one sentence."""
        versions = sorted({block.incumbent_version for block in self.plan.blocks})
        devices = sum(len(block.devices) for block in self.plan.blocks)
        return (
            f"{self.outcome} {self.plan.challenger_version} beside {', '.join(versions)} on {len(self.plan.blocks)} of "
            f"{devices} devices: {'; '.join(self.reasons)}"
        )

    def judged(self) -> Judgement:
        """What its figures say, judged again."""
        return judge_fleet(self.plan, figures_in(self.told), self.lost)


class KeptFleetVerdict(BaseModel):
    """A verdict as it is kept: its bytes' digest, and the key that signed it (None: nobody did)."""

    model_config = ConfigDict(frozen=True)

    path: Path
    sha256: Sha256
    verdict: FleetVerdict
    signer: str | None


def figures_in(told: dict[str, DeviceTold]) -> dict[str, Figures]:
    """The figures of those that have some."""
    return {name: one.figures for name, one in told.items() if one.figures is not None}


def is_comparison(folder: Path) -> bool:
    """Whether the rollout in that folder only takes a challenger to its arm of a comparison."""
    return (folder / PLAN_FILE).exists()


def write_plan(folder: Path, plan: FleetPlan, goldens: bytes | None) -> None:
    """Keep the plan of a comparison in its rollout's folder."""
    if goldens is not None:
        write_atomic(folder / GOLDENS_FILE, goldens)
    write_atomic(folder / PLAN_FILE, plan.model_dump_json(indent=1))


def read_plan(folder: Path) -> tuple[FleetPlan, bytes | None]:
    """The plan in that folder, and its golden questions. Raises `BadInput` where there is none that holds."""
    try:
        plan = FleetPlan.model_validate_json(_bytes(folder / PLAN_FILE))
        goldens = None if plan.goldens is None else _bytes(folder / GOLDENS_FILE)
    except FileNotFoundError:
        raise BadInput(
            f"no comparison between devices lies in {folder}",
            expected="one that was started with --class or --over",
            remedy="`milton rollout status` names the rollouts",
        ) from None
    except ValidationError as error:
        raise BadInput(f"{folder / PLAN_FILE} does not hold: {error.errors()[0]['msg']:.200}") from None
    if goldens is not None and sha256_bytes(goldens) != plan.goldens:
        raise BadInput(f"{folder / GOLDENS_FILE} holds other golden questions than the plan pins")
    return plan, goldens


def keep_verdict(state: StateDir, folder: Path, verdict: FleetVerdict) -> KeptFleetVerdict:
    """Keep how it ended, signed if there is a key; one that is kept already stays. Raises `EvidenceMismatch`."""
    path = folder / VERDICT_FILE
    if not path.exists():
        write_signed(state, path, verdict.model_dump_json(indent=1).encode())
    kept = kept_verdict(folder)
    assert kept is not None  # noqa: S101 - it was just written
    return kept


def kept_verdict(folder: Path) -> KeptFleetVerdict | None:
    """How it ended; None while it goes on. Raises `EvidenceMismatch` for a verdict that its figures do not lead to."""
    path = folder / VERDICT_FILE
    if not path.exists():
        return None
    raw = _bytes(path)
    try:
        verdict, signer = FleetVerdict.model_validate_json(raw), signer_of(path, raw)
    except (ValidationError, SignatureInvalid) as error:
        raise EvidenceMismatch(
            f"{path} does not hold: {error!s:.300}",
            expected="a verdict as it was kept, and its signature",
            remedy="restore both from a backup",
        ) from None
    if verdict.fact is None and verdict.judged().outcome is not verdict.outcome:
        raise EvidenceMismatch(
            f"{path} says {verdict.outcome}, its figures say {verdict.judged().outcome}",
            expected="a verdict that follows from its figures",
        )
    if verdict.fact is not None and verdict.outcome is Outcome.PROMOTE:
        raise EvidenceMismatch(f"{path} promotes by a fact", expected="a promotion by evidence")
    return KeptFleetVerdict(path=path, sha256=sha256_bytes(raw), verdict=verdict, signer=signer)


def fleet_verdict_file(state: StateDir, canary: str) -> Path:
    """Where the verdict of that comparison is kept. Raises `BadInput` for an id that is none."""
    return state.rollouts / check_canary_id(canary) / VERDICT_FILE


def kept_fleet_verdicts(state: StateDir, release: str | None = None) -> Iterator[KeptFleetVerdict | DoesNotHold]:
    """How comparisons between devices ended, oldest first; of `release` alone where one is named, and whatever does not
    hold: whose that was cannot be known."""
    for folder in entries(state.rollouts):
        path = folder / VERDICT_FILE
        if not folder.name.startswith("canary_") or not path.exists():
            continue
        try:
            kept = kept_verdict(path.parent)
        except (EvidenceMismatch, BadInput) as error:
            yield DoesNotHold(path.parent.name, path, str(error))
            continue
        if kept is not None and (release is None or kept.verdict.concerns(release)):
            yield kept


def _bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        raw = stream.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise BadInput(f"{path} is larger than {_MAX_BYTES >> 20} MiB")
    return raw
