"""Doing once more what a cut link interrupted, as long as it gets on.

    Patience("kitchen", PATIENCE_S, tally).persist(step, lambda: transfer.reached, on_progress)

What belongs here: when to try again, how long to wait before, and when to give up. What does not: what is done, and how
it goes on where it was cut (`transfer`, `measuring_elsewhere`, `following`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from milton_assets.fleet.links import Unreachable
from milton_assets.fleet.sending import Tally
from milton_assets.vocabulary.progress import OnProgress, Progress

PATIENCE_S = 3600.0
"""A deployment goes on trying for so long without a byte or a word from the device."""
_MAX_PAUSE_S = 20.0

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """With the target `name`: it ends after `longest_s` without a word. `tally` counts the cuts."""

    name: str
    longest_s: float
    tally: Tally

    def persist(
        self, step: Callable[[], T], heard: Callable[[], object], on_progress: OnProgress, *, is_begun: bool = True
    ) -> T:
        """Do `step` until it ends well; after a cut again, as long as what `heard` returns changes within the patience.

        Raises the last `Unreachable` when the patience ends; at once when nothing `is_begun` and nothing was heard.
        """
        first = last = heard()
        since, pause_s = time.monotonic(), 0.2
        while True:
            try:
                return step()
            except Unreachable as error:
                self.tally.cuts += 1
                now = time.monotonic()
                if heard() != last:
                    last, since, pause_s = heard(), now, 0.2
                if now - since > self.longest_s or (last == first and not is_begun):
                    raise
                on_progress(Progress("connect", 0, 1, f"waiting for {self.name}: {error.problem}"))
                time.sleep(min(pause_s, max(0.0, since + self.longest_s - now)) * random.uniform(0.5, 1.0))  # noqa: S311 - a pause
                pause_s = min(_MAX_PAUSE_S, pause_s * 2)
