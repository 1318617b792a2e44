"""One campaign at a time over all hosts of an instance: an advisory lock in the Postgres that keeps its runs.

    with held_between_hosts(url, wait=False, on_wait=print): ...
    holder = holder_between_hosts(url)          # None: nobody

What belongs here: taking that lock, keeping it while the server is restarted, and who holds it. What does not: the lock
of one host (`milton_assets.vocabulary.locks`), and what a campaign is.

Postgres drops the lock with its holder's connection: when the process dies, and within half a minute when its host
vanishes. A server that is restarted drops all of them. The holder takes its own again within seconds, and nobody else
tries before `GRACE_S` have passed since the server started. A holder that was cut off for longer, and finds the lock
taken, interrupts itself: its campaign can be gone on with.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.locks import wait_until_free
from resources.postgres_sessions import GONE_WITHIN_25_S

GRACE_S = 10.0
"""How long after its server's start the lock is left to whoever held it before."""

POLL_S = 1.0

_KEY = 0x6D696C746F6E
"""The lock's number in that database: `milton` in ASCII."""

_KEEPALIVE = "; ".join(f"SET {name} = '{value}'" for name, value in GONE_WITHIN_25_S.items())
_TAKE = text("SELECT pg_try_advisory_lock(:key)")
_UP_S = text("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())")
_HOLDER = text(
    "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted "
    "AND (classid::bigint << 32) + objid::bigint = :key AND pg_locks.database = "
    "(SELECT oid FROM pg_database WHERE datname = current_database())"
)


def holder_between_hosts(url: str) -> str | None:
    """Who holds the campaign's lock in the database at `url`, in words; None when nobody does."""
    with _engine(url).connect() as connection:
        return _holder(connection)


@contextmanager
def held_between_hosts(url: str, *, wait: bool, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the campaign's lock in the database at `url`.

    Raises `MiltonError` when another holds it, or tells `on_wait` so, once, and waits for it.
    """
    engine, taken = _engine(url), list[Connection]()

    def why_not() -> MiltonError | None:
        if (mine := _taken(engine)) is not None:
            taken.append(mine)
            return None
        holder = holder_between_hosts(url) or "somebody who let go of it just now"
        return MiltonError(
            f"another campaign is running ({holder})",
            expected="one campaign at a time on the hosts of an instance: two would take turns on them",
            remedy="wait for it to end (`milton autobench --wait` does), or stop that process",
        )

    wait_until_free(why_not, wait=wait, on_wait=on_wait, poll_s=POLL_S)
    over = threading.Event()
    keeper = threading.Thread(target=_keep, args=(engine, *taken, over), name="campaign lock", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()


def _engine(url: str) -> Engine:
    return create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")


def _taken(engine: Engine) -> Connection | None:
    """A connection that holds the lock now, or None where another's does; waits while a former holder goes first."""
    connection = engine.connect()
    up_s = float(connection.execute(_UP_S).scalar_one())
    if up_s < GRACE_S:
        connection.close()
        time.sleep(GRACE_S - up_s)
        connection = engine.connect()
    return connection if _take(connection) else None


def _take(connection: Connection) -> bool:
    """Take the lock for as long as the connection lives; closes it where another holds it."""
    connection.execute(text(_KEEPALIVE))
    name = f"campaign of process {os.getpid()} on {socket.gethostname()}"
    connection.execute(text("SELECT set_config('application_name', :name, false)"), {"name": name[:63]})
    taken = bool(connection.execute(_TAKE, {"key": _KEY}).scalar_one())
    if not taken:
        connection.close()
    return taken


def _holder(connection: Connection) -> str | None:
    found = connection.execute(_HOLDER, {"key": _KEY}).scalar_one_or_none()
    return None if found is None else str(found)


def _keep(engine: Engine, mine: Connection, over: threading.Event) -> None:
    """Look after the lock until it is over: take it again when the connection broke, or interrupt this process."""
    held: Connection | None = mine
    while not over.wait(POLL_S):
        try:
            if held is not None:
                held.execute(text("SELECT 1"))
                continue
            again = engine.connect()
            if not _take(again):
                os.kill(os.getpid(), signal.SIGINT)
                return
            held = again
        except DBAPIError:
            if held is not None:
                held.invalidate()
                held.close()
            held = None
    if held is not None:
        held.close()
