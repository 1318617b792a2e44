"""What an attempt is held against, besides its own digests: load test, health window, the device's policy, its memory
and its model server.

What belongs here: these as values and protocols. What does not: when each is asked (`attempt`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from milton_assets.edge.deployment.admission import Trial
from milton_assets.edge.deployment.capacity import Memory, device_memory
from milton_assets.edge.deployment.loadtest import LoadTest
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.fingerprint import GpuFingerprint
from milton_assets.vocabulary.inventory import Runtime
from milton_assets.vocabulary.progress import OnProgress, Progress, silent

STEPS = ("accept", "copy", "verify", "load test", "install", "activate", "health", "confirm", "commit")


class Admission(Protocol):
    """A device's policy: which releases may run on it."""

    def __call__(self, release: Path, *, now: datetime, highest_counter: int | None, trial: Trial) -> None:
        """Raise a `MiltonError` with the reason when the release in that folder must not run here.

        `now` is never earlier than the target's last record; `highest_counter` is the highest ever committed on it,
        None when the target goes back to a release that it has run: then its age is no reason.
        """
        ...


@dataclass(frozen=True)
class HealthWindow:
    """How long a release is watched once it is current: `rounds` probes, `interval_s` seconds apart.

    `detached` watches from a process of the target's own, which outlives the deployer; the probe must be picklable.
    """

    probe: LoadTest
    rounds: int = 3
    interval_s: float = 5.0
    detached: bool = True

    def __post_init__(self) -> None:
        if self.rounds < 1 or not 0 <= self.interval_s < float("inf"):
            raise BadInput(
                f"a health window of {self.rounds} rounds, {self.interval_s} s apart",
                expected="at least one round, and a finite interval of 0 s or more",
            )


@dataclass(frozen=True)
class Safeguards:
    """Everything an attempt is held against. None skips a safeguard, and 0 the dead-man's switch (`confirmation`).

    `runtime` is the model server that the device would serve with, `gpus` those it may have.
    """

    load_test: LoadTest | None = None
    health: HealthWindow | None = None
    policies: tuple[Admission, ...] = ()
    on_progress: OnProgress = silent
    memory: Memory = field(default_factory=device_memory)
    confirm_within_s: float = 0.0
    runtime: Runtime | None = None
    gpus: tuple[GpuFingerprint, ...] = ()

    @property
    def trial(self) -> Trial:
        """How a release is tried under these."""
        return Trial(load_test=self.load_test is not None, health_rounds=self.health.rounds if self.health else 0)

    def at(self, step: str, about: str = "") -> None:
        """Report that the attempt has come to this of its `STEPS`."""
        self.on_progress(Progress("deploy", STEPS.index(step), len(STEPS), f"{step} {about}".rstrip()))


def guarded(on_progress: OnProgress, note: Callable[[str], None]) -> OnProgress:
    """The listener, whose failures are noted: they are no reason to stop a deployment."""

    def tell(step: Progress) -> None:
        try:
            on_progress(step)
        except Exception as error:  # noqa: BLE001 - whatever a listener raises, the deployment goes on
            note(f"the progress listener failed: {error}")

    return tell
