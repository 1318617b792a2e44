"""One campaign at a time: two would measure each other.

    with only_campaign(state.campaign_lock), only_campaign_of_all_hosts(instance): ...
    holder = campaign_holder(instance, state.campaign_lock)     # None: nobody

What belongs here: keeping other campaigns away, on this host, on all that share a Postgres, and from the daemon; who
conducts one; and waiting for them. What does not: locks themselves (`milton_assets.vocabulary.locks`,
`resources.shared_campaign_lock`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from dagster import DagsterInstance

from milton_assets.assets.evidence import CAMPAIGN_TAG
from milton_assets.campaign.runs import measuring_for_the_daemon
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.locks import acquire, is_held, wait_until_free
from milton_assets.vocabulary.terminal import tell
from resources.dagster_private import postgres_url
from resources.shared_campaign_lock import held_between_hosts, holder_between_hosts

_POLL_S = 0.5


@contextmanager
def only_campaign(lock: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the campaign lock: two campaigns at once would measure each other.

    Raises `MiltonError` when it is held, or says so and waits for it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as handle:

        def why_not() -> MiltonError | None:
            if acquire(handle.fileno(), wait_s=0):
                return None
            handle.seek(0)
            return MiltonError(
                f"another campaign is running here (process {handle.read().strip() or 'unknown'})",
                expected="one campaign at a time: two would measure each other",
                remedy="wait for it to end (`milton autobench --wait` does), or stop that process",
            )

        wait_until_free(why_not, wait=wait, on_wait=_say_that_it_waits, poll_s=_POLL_S)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def only_campaign_of_all_hosts(instance: DagsterInstance, *, wait: bool = False) -> AbstractContextManager[None]:
    """Hold the campaign lock of all hosts that share the instance's Postgres; nothing where there is none.

    Raises `MiltonError` when another host's campaign holds it, or says so and waits for it.
    """
    url = postgres_url(instance)
    if url is None:
        return nullcontext()
    return held_between_hosts(url, wait=wait, on_wait=_say_that_it_waits)


def after_the_daemons_campaign(instance: DagsterInstance, *, wait: bool) -> None:
    """Wait until no run that a sensor or a schedule asked for is left to measure a model, or raise `MiltonError`."""

    def why_not() -> MiltonError | None:
        if not (left := measuring_for_the_daemon(instance)):
            return None
        campaigns = ", ".join(sorted({run.tags[CAMPAIGN_TAG] for run in left}))
        return MiltonError(
            f"the daemon's campaign {campaigns} has {len(left)} models to measure",
            expected="one campaign at a time: two would measure each other",
            remedy="wait for it (`milton autobench --wait` does), or cancel its runs in the UI",
        )

    wait_until_free(why_not, wait=wait, on_wait=_say_that_it_waits, poll_s=_POLL_S)


def campaign_holder(instance: DagsterInstance, lock: Path) -> str | None:
    """Who conducts a campaign on this host, or on any that shares the instance's Postgres; None when nobody does."""
    url = postgres_url(instance)
    if url is not None:
        return holder_between_hosts(url)
    return "a process of this machine" if is_held(lock) else None


def _say_that_it_waits(holder: str) -> None:
    tell(f"{holder}; waiting for it to end, Ctrl-C stops the waiting")
