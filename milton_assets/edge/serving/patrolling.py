"""Reading what is served again, a little at a time, for as long as it is served.

What belongs here: when a round is run, and telling what it found. What does not: what a round reads
(`edge.bundle.patrol`), and whether to go back: bytes that changed on the disk are for a person, who looks at the disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from milton_assets.edge.bundle.patrol import Patrol
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.journal import read_journal
from milton_assets.edge.deployment.layout import PATROL_FILE, RELEASES
from milton_assets.edge.release.disk import opened
from milton_assets.edge.serving.health_journal import EventKind, HealthEvent, shortened
from milton_assets.vocabulary.errors import MiltonError

ROUND_BYTES = 16 << 20
EVERY_S = 10.0
"""With `ROUND_BYTES`, 4 GB are read in 42 minutes, at less than 2 MB/s."""


class Patrolling:
    """The rounds over what the target at `target` has in service, whatever that is by now."""

    def __init__(
        self,
        target: Path,
        on_event: Callable[[HealthEvent], None],
        *,
        round_bytes: int = ROUND_BYTES,
        every_s: float = EVERY_S,
    ) -> None:
        self._target = target
        self._on_event = on_event
        self._round_bytes = round_bytes
        self._every_s = every_s
        self._release: str | None = None
        self._patrol: Patrol | None = None
        self._told: set[str] = set()

    async def run(self) -> None:
        """Run rounds until cancelled; what is found is told by the loop's own thread."""
        while True:
            begun = time.monotonic()
            for said in await asyncio.to_thread(self.round):
                self._on_event(
                    HealthEvent(
                        at=datetime.now(UTC),
                        kind=EventKind.ALARM,
                        said=shortened(said),
                        release=self._release,
                        needs_person=True,
                    )
                )
            await asyncio.sleep(max(0.0, self._every_s - (time.monotonic() - begun)))

    def round(self) -> tuple[str, ...]:
        """One round; what was found wrong that was not told before, a sentence each."""
        try:
            found = self._found()
        except (MiltonError, OSError) as error:
            found = (f"what is in service cannot be read again: {error}",)
        new = tuple(dict.fromkeys(said for said in found if said not in self._told))
        self._told.update(new)
        return new

    def _found(self) -> tuple[str, ...]:
        ops = FileOps()
        if not self._target.exists():
            return ()
        with opened(ops, ops.open_folder(self._target)) as folder:
            state = read_journal(ops, folder).state
        if state.active is None:
            self._release = self._patrol = None
            return ()
        if self._patrol is None or self._release != state.active:
            self._release, self._told = state.active, set()
            self._patrol = Patrol(
                self._target / RELEASES / state.active,
                state.releases[state.active].manifest_sha256,
                remembered=self._target / PATROL_FILE,
            )
        return self._patrol.round(self._round_bytes)
