"""How errors cross the wire: by their name and their three sentences, never as objects.

What belongs here: telling an error, and raising it again on the other side. What does not: frames (`wire`).
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from milton_assets.edge.canary.starting import NoCanary
from milton_assets.edge.deployment import (
    AttemptKnown,
    ClockSetBack,
    Deployment,
    DeploymentFailed,
    DiskFailed,
    JournalDamaged,
    NeverDeployed,
    NotAdmitted,
    NotATarget,
    NotEnoughMemory,
    NotEnoughRoom,
    NothingBefore,
    NotOurs,
    ReleaseDamaged,
    RuntimeTooOld,
    TargetBusy,
)
from milton_assets.edge.deployment.trust import NotBelieved
from milton_assets.edge.release import SignatureInvalid
from milton_assets.fleet.marks import TargetGone
from milton_assets.fleet.wire import ProtocolViolated
from milton_assets.vocabulary.errors import BadInput, MiltonError, ServerFailed

KNOWN: dict[str, type[MiltonError]] = {
    kind.__name__: kind
    for kind in (
        AttemptKnown,
        BadInput,
        ClockSetBack,
        DeploymentFailed,
        DiskFailed,
        JournalDamaged,
        MiltonError,
        NeverDeployed,
        NoCanary,
        NotATarget,
        NotAdmitted,
        NotBelieved,
        NotEnoughMemory,
        NotEnoughRoom,
        NotOurs,
        NothingBefore,
        ProtocolViolated,
        ReleaseDamaged,
        RuntimeTooOld,
        ServerFailed,
        SignatureInvalid,
        TargetBusy,
        TargetGone,
    )
}
"""The errors that keep their kind. Any other arrives as a `MiltonError` with its sentences."""


def told(error: MiltonError) -> dict[str, Any]:
    """`error` as plain values."""
    kind = next((name for name, known in KNOWN.items() if type(error) is known), "MiltonError")
    said: dict[str, Any] = {
        "error": kind,
        "problem": error.problem,
        "expected": error.expected,
        "remedy": error.remedy,
    }
    if isinstance(error, DeploymentFailed):
        said["deployment"] = error.deployment.model_dump(mode="json")
    return said


def error_of(said: Any) -> MiltonError:
    """The inverse of `told`, for whatever arrived. Raises `ProtocolViolated` for what is no told error."""
    if not isinstance(said, dict) or not isinstance(said.get("problem"), str):
        raise ProtocolViolated("an error without a problem", expected="its kind and its sentences")
    kind = KNOWN.get(str(said.get("error")), MiltonError)
    expected, remedy = (said.get(key) if isinstance(said.get(key), str) else None for key in ("expected", "remedy"))
    if kind is not DeploymentFailed:
        return kind(said["problem"], expected=expected, remedy=remedy)
    failed = DeploymentFailed(said["problem"], expected=expected, remedy=remedy)
    try:
        failed.deployment = Deployment.model_validate(said.get("deployment"))
    except ValidationError as error:
        raise ProtocolViolated(
            f"a failed deployment without its entry: {error.errors()[0]['msg']}", expected="its history entry"
        ) from None
    return failed
