"""An attempt on a device, looked on at over whatever connections that takes.

What belongs here: asking how it stands, coming back over a new connection where the device wants that, and telling each
step once. What does not: beginning an attempt and what follows from its end (`ssh`), and going on after a cut
(`patience`).
"""

from __future__ import annotations

import time

from milton_assets.fleet.asking import Asking
from milton_assets.fleet.messages import Standing, answered
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.progress import OnProgress, Progress

_FOLLOW_S = 20.0


class Following:
    """Looks on at an attempt, whatever connections it takes."""

    def __init__(self, deployment: str, on_progress: OnProgress) -> None:
        self.is_asked = False
        self.is_begun = False
        self.heard = 0
        self._deployment = deployment
        self._on_progress = on_progress
        self._step = ""
        self._unknown = 0
        self._is_wanted = False

    def run(self, asking: Asking) -> Standing:
        """Follow until it is done or wants us to come back; then this connection ends."""
        if self._is_wanted:
            self._confirm(asking)
        while True:
            answer = asking.ask("follow", deployment=self._deployment, seen=self._step, wait_s=_FOLLOW_S)
            standing = answered(Standing, answer)
            self.heard += 1
            if standing.state == "unknown":
                self._unknown += 1
                if self._unknown > 3:
                    raise MiltonError(
                        f"the device knows nothing of {self._deployment}, which it was asked for",
                        remedy="see the agent's log on the device, then deploy again",
                    )
                self.is_begun = False
                time.sleep(0.2)
                return standing
            if standing.step != self._step:
                self._step = standing.step
                self._on_progress(Progress("deploy", 0, 1, self._step))
            if standing.state == "done" or standing.wants_confirmation:
                self._is_wanted = standing.wants_confirmation
                return standing

    def _confirm(self, asking: Asking) -> None:
        try:
            asking.ask("confirm", deployment=self._deployment)
        except BadInput:
            return  # it does not wait for us any more: following tells how it ended
        self.heard += 1
