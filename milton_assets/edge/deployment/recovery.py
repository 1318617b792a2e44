"""Making a target agree with its journal, whatever happened: the first thing whoever holds its lock does.

What belongs here: closing an attempt that was cut off, setting the links, emptying the staging folder. What does not:
going back from a release that turned out bad (`deployer`).

Every step can be cut off and repeated: the links are set before the journal says so, and setting them again changes
nothing. An attempt that was not committed ends where it began; one that was committed stands, and only what was left
to do is done.
"""

from __future__ import annotations

from milton_assets.edge.deployment.collection import record_missing
from milton_assets.edge.deployment.fileops import remove_tree
from milton_assets.edge.deployment.layout import STAGING, Link, NotATarget, point, read_link
from milton_assets.edge.deployment.session import Session
from milton_assets.edge.deployment.states import Failed, InFlight, RolledBack
from milton_assets.edge.release.disk import names, opened
from milton_assets.vocabulary.digest import short


def recover(session: Session) -> tuple[str, ...]:
    """Bring the target into the state its journal says; what had to be done, a sentence each, is returned.

    Raises `OSError` when the disk does not let it; then nothing is worse than before, and it can be tried again.
    """
    done = []
    if torn := session.journal.torn_bytes:
        done.append(f"the journal's last {torn} bytes were torn and are dropped")
    if leftovers := clear_staging(session):
        done.append(f"removed what was staged: {', '.join(leftovers)}")
    flight = session.state.in_flight
    if flight is not None:
        done.append(_close(session, flight))
    done += settle_links(session)
    if missing := record_missing(session, actor="recovery"):
        done.append(f"releases that are gone were noted as collected: {', '.join(map(short, missing))}")
    session.mirror()
    return tuple(done)


def clear_staging(session: Session) -> list[str]:
    """Empty the staging folder; the names of what was there."""
    with opened(session.ops, session.ops.open_folder(STAGING, session.folder)) as staging:
        leftovers = names(staging)
        for name in leftovers:
            remove_tree(session.ops, name, staging)
        if leftovers:
            session.ops.fsync(staging)
    return leftovers


def _close(session: Session, flight: InFlight) -> str:
    at = session.now()
    what = f"{flight.deployment} was cut off while {flight.phase}"
    if flight.may_have_swapped:
        point(session.ops, session.folder, Link.CURRENT, flight.from_release)
        reason = f"{what}; back to what was in service before"
        record = RolledBack(
            at=at, deployment=flight.deployment, to=flight.from_release, reason=reason, interrupted=True
        )
        session.journal.append(record)
    else:
        reason = f"{what}; nothing in service had changed"
        session.journal.append(Failed(at=at, deployment=flight.deployment, reason=reason, interrupted=True))
    return reason


def settle_links(session: Session) -> list[str]:
    """Let `current` and `last-known-good` point where the journal says; which had not."""
    done = []
    wanted = {Link.CURRENT: session.state.active, Link.KNOWN_GOOD: session.state.known_good}
    for link, release in wanted.items():
        found = _link_or_foreign(session, link)
        if found != release:
            point(session.ops, session.folder, link, release)
            done.append(f"{link} pointed to {found or 'nothing'} and now points to {release or 'nothing'}")
    return done


def _link_or_foreign(session: Session, link: Link) -> str | None:
    try:
        return read_link(link, session.folder)
    except NotATarget as error:
        return error.problem
