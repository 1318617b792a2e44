"""Trying a release in the memory of the one that serves, for whoever deploys it and finds no room beside.

What belongs here: the gateway's side of a loan: that it lends, what a borrower wants, and what becomes of the release
that was tried. What does not: what both sides write (`edge.deployment.borrowing`), model servers (`supervisor`), and
what the release is asked.

The rules:

 1. Users are held from when the release in service has drained until the borrower is done: nobody gets an untried
    answer.
 2. A release that becomes current after it was tried serves on from the memory it is in: it is loaded once.
 3. Else the release in service comes back, at once when nobody deploys any more, and after `settle_s` at the latest.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

from milton_assets.edge.deployment.borrowing import Lends, Lent, Wanted, saying, wanted_in
from milton_assets.edge.deployment.layout import GATEWAY_FILE, LOAN_FILE
from milton_assets.edge.deployment.lock import is_locked
from milton_assets.edge.serving.asking import Unanswered
from milton_assets.edge.serving.released import current_digest, read_released
from milton_assets.edge.serving.supervisor import Borrowed, Mode, Supervisor
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.files import write_atomic

SETTLE_S = 30.0
_AGAIN_S = 1.0


class Lender:
    """Lends the memory of what `supervisor` serves; not where it has memory for two.

    `poll_s` is how often it looks for a borrower, a tenth of it whether one is done: users wait for that.
    """

    def __init__(self, supervisor: Supervisor, *, poll_s: float = 0.2, settle_s: float = SETTLE_S) -> None:
        self._supervisor = supervisor
        self._target = supervisor.target
        self._poll_s = poll_s
        self._settle_s = settle_s

    async def run(self) -> None:
        """Lend until cancelled."""
        while True:
            if self._supervisor.mode is not Mode.TWO and self._target.is_dir():
                # What a full disk does not let us say is told by the watch; a borrower sees that nobody lends.
                with suppress(OSError, MiltonError):
                    await self._lend_while_nobody_else_does()
            await asyncio.sleep(_AGAIN_S)

    async def _lend_while_nobody_else_does(self) -> None:
        mine = Lends(pid=os.getpid(), mode="one" if self._supervisor.mode is Mode.ONE else "auto")
        with saying(self._target / GATEWAY_FILE, mine, wait_s=0) as is_ours:
            while is_ours:
                if (wanted := wanted_in(self._target)) is not None:
                    await self._lend(wanted)
                await asyncio.sleep(self._poll_s)

    async def _lend(self, wanted: Wanted) -> None:
        try:
            release = read_released(Path(wanted.folder), wanted.release)
        except (MiltonError, OSError) as error:
            await self._refused(wanted, str(error))
            return
        while (borrowed := self._supervisor.begin_trial(release)) is None:
            # It is being swapped, or a shadow has the memory.
            await asyncio.sleep(self._poll_s)
            if not self._is_wanted(wanted):
                return
        try:
            await self._try(wanted, borrowed)
        finally:
            await self._supervisor.end_trial(borrowed)

    async def _try(self, wanted: Wanted, borrowed: Borrowed) -> None:
        try:
            await self._supervisor.bring_to_trial(borrowed, lambda: self._is_wanted(wanted))
        except (MiltonError, Unanswered) as error:
            await self._refused(wanted, str(error))
            return
        except TimeoutError:
            await self._refused(wanted, "the requests that it works on did not end in time")
            return
        server = borrowed.server
        if server.running is None or not self._is_wanted(wanted):
            return
        endpoint = server.running.endpoint
        self._answer(
            Lent(
                id=wanted.id,
                base_url=endpoint.base_url,
                model=server.model,
                slots=endpoint.slots,
                load_s=round(borrowed.load_s, 3),
                pid=os.getpid(),
            )
        )
        await self._done(wanted)
        until = time.monotonic() + self._settle_s
        while not borrowed.is_in_service and is_locked(self._target) and time.monotonic() < until:
            if current_digest(self._target) == wanted.release or wanted_in(self._target) is not None:
                return
            await asyncio.sleep(self._poll_s / 10)

    async def _refused(self, wanted: Wanted, why: str) -> None:
        self._answer(Lent(id=wanted.id, problem=why))
        await self._done(wanted)

    async def _done(self, wanted: Wanted) -> None:
        while self._is_wanted(wanted):
            await asyncio.sleep(self._poll_s / 10)

    def _is_wanted(self, wanted: Wanted) -> bool:
        return wanted_in(self._target) == wanted

    def _answer(self, lent: Lent) -> None:
        write_atomic(self._target / LOAN_FILE, lent.model_dump_json())
