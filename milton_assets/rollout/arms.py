"""Two releases compared by whole devices: which device serves which, and what their figures say together.

    blocks, left_out = drawn_blocks(candidates, share=0.25, seed=seed)
    judged = judge_fleet(plan, {"attic": figures, …})

What belongs here: the draw, the plan, the evidence and the verdict, pure functions of what devices told. What does not:
taking the challenger to its devices (a rollout of its own) and asking them (`milton_assets.usecases.fleet_canaries`).

A request is not independent of its device, so a device is one observation, however much it answered. Devices of one
class that serve the same release are put into blocks by chance, and one device of each block, drawn, gets the
challenger. If that makes no difference, the one with the worst figure of a block of k is the challenger's with a
probability of 1/k, whatever devices, users and load are like: a bet on that is fair
(`statistics.anytime.events_by_arm`), needs no model of devices, and no burn-in. It is promoted by the same bet on the
*best* figure, after the margin was taken off the challenger's: if it were worse by the margin on every device, that too
would be the challenger's with at most 1/k.

Blocks count in the order of the plan, each once all its devices have told; one whose challenger never got the release
is none of the evidence against it (the rollout judges that) and counts as not its best in the evidence for it.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from milton_assets.edge.canary.plan import MAX_REQUESTS, Arm, CanaryId, Margins
from milton_assets.edge.canary.verdict import Finding, Judgement, Outcome, parts_of
from milton_assets.edge.canary.whole import Figures
from milton_assets.statistics.anytime import Bets, events_by_arm, needed
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.format_version import of_this_version
from milton_assets.vocabulary.keys import Slug

ARMS_VERSION: Final = 1
PARTS = {"errors": 0.45, "answer": 0.15, "writing": 0.15, "longer": 0.05, "shorter": 0.05, "feedback": 0.15}
"""Each question's part of `alpha`, without golden questions; with them they get a tenth, and the others the rest."""
_FROM = {"longer": "length", "shorter": "length"}
_AGAINST = {
    "errors": "its devices' shares of errors are the worst of their blocks too often",
    "answer": "its devices begin to answer later than the margin allows",
    "writing": "its devices write slower than the margin allows",
    "longer": "its devices' answers are longer than the margin allows",
    "shorter": "its devices' answers are shorter than the margin allows",
    "feedback": "its devices' answers are rated badly more often than the other devices'",
    "goldens": "its devices' answers to golden questions are wrong more often than the other devices'",
}
_FOR = {
    "errors": "its devices' errors are within the margin",
    "answer": "its devices begin to answer within the margin",
    "writing": "its devices write within the margin",
    "longer": "its devices' answers are not too long",
    "shorter": "its devices' answers are not too short",
    "goldens": "its devices' answers to golden questions are right within the margin",
}


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Candidate(_Noun):
    """A device that may be an arm: its class, and what it serves."""

    name: Slug
    device_class: Slug
    release: Sha256
    model_version: Slug


class Block(_Noun):
    """Devices of one class that serve the same release; `challenger` is the one that was drawn."""

    device_class: Slug
    incumbent: Sha256
    incumbent_version: Slug
    devices: tuple[Slug, ...] = Field(min_length=2)
    challenger: Slug

    @model_validator(mode="after")
    def _holds(self) -> Self:
        if self.challenger not in self.devices or len(set(self.devices)) != len(self.devices):
            raise ValueError("a block's challenger is one of its devices, each of which is there once")
        return self


class FleetPlan(_Noun):
    """One comparison between devices. `requests` of each device tell; `alpha` bounds both errors, as in `CanaryPlan`.

    Its rollout, which takes the challenger to its devices, bears the same name.
    """

    version: Literal[1] = ARMS_VERSION
    id: CanaryId
    challenger: Sha256
    challenger_version: Slug
    challenger_manifest_sha256: Sha256
    blocks: tuple[Block, ...] = Field(min_length=1)
    left_out: tuple[Slug, ...] = ()
    share: float = Field(ge=0.01, le=0.5)
    seed: str = Field(pattern=r"[0-9a-f]{64}")
    requests: int = Field(ge=1, le=MAX_REQUESTS)
    margins: Margins = Margins()
    goldens: Sha256 | None = None
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    started_at: AwareDatetime
    actor: str = Field(min_length=1, max_length=500)

    @model_validator(mode="before")
    @classmethod
    def _of_this_version(cls, given: Any) -> Any:
        return of_this_version(given, what="plan of a fleet's canary", field="version", version=ARMS_VERSION)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [name for block in self.blocks for name in block.devices]
        if len(set(names)) != len(names):
            raise ValueError("a device is in two blocks")
        return self

    @property
    def size(self) -> int:
        """How many devices a block has."""
        return size_of_blocks(self.share)

    @property
    def challengers(self) -> tuple[str, ...]:
        """The devices that get the challenger."""
        return tuple(block.challenger for block in self.blocks)

    def arms(self) -> Iterator[tuple[str, Arm, Block]]:
        """Every device that is compared, its arm and its block."""
        for block in self.blocks:
            for name in block.devices:
                yield name, Arm.CHALLENGER if name == block.challenger else Arm.INCUMBENT, block


def size_of_blocks(share: float) -> int:
    """How many devices a block has of which one gets the challenger, for about that share of devices. Raises
    `BadInput`."""
    if not 0.01 <= share <= 0.5:
        raise BadInput(f"a share of {share:.0%} of the devices", expected="1 % to 50 %: one of a hundred, or of two")
    return round(1 / share)


def drawn_blocks(
    candidates: Sequence[Candidate], *, share: float, seed: str
) -> tuple[tuple[Block, ...], tuple[str, ...]]:
    """Blocks by chance, and who fills none. The same candidates, share and seed give the same blocks."""
    size, strata = size_of_blocks(share), defaultdict[tuple[str, str], list[Candidate]](list)
    for candidate in candidates:
        strata[candidate.device_class, candidate.release].append(candidate)
    blocks, left_out = [], []
    for _, members in sorted(strata.items()):
        drawn = sorted(members, key=lambda one: _digest(seed, one.name))
        whole = len(drawn) // size * size
        for at in range(0, whole, size):
            first, *others = drawn[at : at + size]
            blocks.append(
                Block(
                    device_class=first.device_class,
                    incumbent=first.release,
                    incumbent_version=first.model_version,
                    devices=tuple(sorted(one.name for one in (first, *others))),
                    challenger=first.name,
                )
            )
        left_out += [one.name for one in drawn[whole:]]
    # The order in which blocks count has nothing to do with classes.
    blocks.sort(key=lambda block: _digest(seed, f"block {block.challenger}"))
    return tuple(blocks), tuple(sorted(left_out))


def _digest(seed: str, text: str) -> bytes:
    return hmac.digest(bytes.fromhex(seed), text.encode(), hashlib.sha256)


def blocks_needed(plan_share: float, alpha: float, *, goldens: bool) -> int:
    """How many blocks it takes at least until errors, the largest question, can send the challenger back."""
    bets, part = events_by_arm(1 / size_of_blocks(plan_share)), parts_of(PARTS, goldens=goldens)["errors"]
    return next(n for n in range(1, 10_000) if bets.log_evidence((n, 0)) >= needed(alpha * part))


def judge_fleet(plan: FleetPlan, told: Mapping[str, Figures], lost: Collection[str] = ()) -> Judgement:
    """What the figures of the devices that have told say; `lost` are challengers that never got the release."""
    counted = list(_counted(plan, told, lost))
    bets = events_by_arm(1 / plan.size)
    findings = [
        Finding(
            question=name,
            speaks_for=Outcome.GO_BACK,
            log_evidence=_evidence(bets, (_worst(name, ours, others, plan.margins) for ours, others in counted)),
            needed=needed(plan.alpha * part),
        )
        for name, part in parts_of(PARTS, goldens=plan.goldens is not None).items()
    ]
    for name in _FOR:
        if (name == "goldens" and plan.goldens is None) or (
            name not in {"errors", "answer", "goldens"}
            and not any(ours is not None and getattr(ours, _FROM.get(name, name)) is not None for ours, _ in counted)
        ):
            continue  # what servers do not tell cannot be asked; errors and times there always are
        best = (_best(name, ours, others, plan.margins) for ours, others in counted)
        findings.append(
            Finding(
                question=name,
                speaks_for=Outcome.PROMOTE,
                log_evidence=_evidence(bets, best),
                needed=needed(plan.alpha),
            )
        )
    return _judgement(tuple(findings))


def _judgement(findings: tuple[Finding, ...]) -> Judgement:
    against = [one for one in findings if one.speaks_for is Outcome.GO_BACK and one.is_answered]
    if against:
        reasons = tuple(_AGAINST[one.question] for one in against)
        return Judgement(outcome=Outcome.GO_BACK, reasons=reasons, findings=findings)
    supporting = [one for one in findings if one.speaks_for is Outcome.PROMOTE]
    if missing := [one for one in supporting if not one.is_answered]:
        reasons = tuple(f"not shown yet: {_FOR[one.question]}" for one in missing)
        return Judgement(outcome=Outcome.NOT_YET, reasons=reasons, findings=findings)
    return Judgement(
        outcome=Outcome.PROMOTE, reasons=tuple(_FOR[one.question] for one in supporting), findings=findings
    )


def _counted(
    plan: FleetPlan, told: Mapping[str, Figures], lost: Collection[str]
) -> Iterator[tuple[Figures | None, list[Figures]]]:
    """The blocks that count by now, in the plan's order: the challenger's figures (None where it never got the
    release), and the others'."""
    for block in plan.blocks:
        if block.challenger in lost:
            yield None, []
        elif all(name in told and told[name].requests >= plan.requests for name in block.devices):
            yield told[block.challenger], [told[name] for name in block.devices if name != block.challenger]
        else:
            return


def _evidence(bets: Bets, outcomes: Iterator[bool | None]) -> float:
    happened = [outcome for outcome in outcomes if outcome is not None]
    return bets.log_evidence((sum(happened), len(happened) - sum(happened)))


def _worst(name: str, ours: Figures | None, others: Sequence[Figures], margins: Margins) -> bool | None:
    """Whether the worst figure of the block is the challenger's, beyond the margin; None where there is no worst."""
    figures = _figures(name, ours, others)
    if figures is None:
        return None
    mine, *rest = figures
    if name in _TIMES_MARGIN:
        mine -= math.log(getattr(margins, _TIMES_MARGIN[name]))
    return _first(mine, rest)


def _best(name: str, ours: Figures | None, others: Sequence[Figures], margins: Margins) -> bool | None:
    """Whether the best figure of the block is the challenger's once the margin is taken off; None where there is no
    best."""
    if ours is None:
        return False
    figures = _figures(name, ours, others)
    if figures is None:
        return None
    mine, *rest = figures
    if name in _TIMES_MARGIN:
        mine -= math.log(getattr(margins, _TIMES_MARGIN[name]))
    else:
        mine -= margins.wrong if name == "goldens" else margins.errors
    return _first(-mine, [-one for one in rest])


_EQUAL = 1e-9
_TIMES_MARGIN = {"answer": "slower", "writing": "slower", "longer": "longer", "shorter": "longer"}


def _figures(name: str, ours: Figures | None, others: Sequence[Figures]) -> list[float] | None:
    """The figures as they are compared, the challenger's first, larger being worse: logarithms of times and lengths;
    None where one of them is not told."""
    if ours is None:
        return None
    values: list[float | None] = [getattr(one, _FROM.get(name, name)) for one in (ours, *others)]
    told = [value for value in values if value is not None]
    if len(told) != len(values):
        return None
    if name not in _TIMES_MARGIN:
        return told
    if min(told) <= 0:
        return None
    return [math.log(value) * (-1 if name == "shorter" else 1) for value in told]


def _first(mine: float, rest: Sequence[float]) -> bool | None:
    """Whether `mine` alone is the largest; None where nothing alone is. What rounding tells apart is equal."""
    most = max(rest)
    if abs(mine - most) <= _EQUAL or (mine < most and sum(most - one <= _EQUAL for one in rest) > 1):
        return None
    return mine > most
