"""When a device last heard a controller, and whether that is too long ago by its owner's word.

    heard(folder, now)                           # a controller speaks, or changes something
    silence(folder, now, limit_hours=72)         # None, or a sentence

What belongs here: keeping that instant and judging it. What does not: who counts as a controller (whoever the agent
lets in, or who changes the target on its own machine), and telling it on (`edge.deployment.standing`).

A device that is kept from its controllers goes on serving what may be out of date or known to be bad, and nobody there
can tell. A silence that was too long is remembered after it ended, for as long as the limit, so that the controller
that ended it learns of it whatever it asks first.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from milton_assets.edge.deployment.layout import HEARD_FILE, POLICY_FILE
from milton_assets.vocabulary.files import write_atomic

_EVERY = timedelta(minutes=1)


class _Heard(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    at: AwareDatetime
    silent_from: AwareDatetime | None = None
    silent_until: AwareDatetime | None = None


def heard(folder: Path, now: datetime, *, limit_hours: float | None) -> None:
    """A controller was heard. Where the target's folder is not there yet, nothing is kept."""
    if not folder.is_dir():
        return
    before = _read(folder)
    if before is not None and timedelta() <= now - before.at < _EVERY:
        return
    since = _last(folder, before)
    broke = limit_hours is not None and since is not None and now - since > timedelta(hours=limit_hours)
    silent = (since, now) if broke else (before.silent_from, before.silent_until) if before else (None, None)
    write_atomic(
        folder / HEARD_FILE,
        _Heard(at=now, silent_from=silent[0], silent_until=silent[1]).model_dump_json() + "\n",
    )


def silence(folder: Path, now: datetime, *, limit_hours: float | None) -> str | None:
    """That no controller is heard, or was not heard until lately, for longer than the limit; None while all is well."""
    if limit_hours is None:
        return None
    known, limit = _read(folder), timedelta(hours=limit_hours)
    since = _last(folder, known)
    if since is not None and now - since > limit:
        return f"no controller was heard since {since:%Y-%m-%d %H:%M} UTC, {_beyond(now - since, limit_hours)}"
    if known is None or known.silent_from is None or known.silent_until is None or now - known.silent_until > limit:
        return None
    return (
        f"no controller was heard from {known.silent_from:%Y-%m-%d %H:%M} to {known.silent_until:%Y-%m-%d %H:%M} UTC, "
        f"{_beyond(known.silent_until - known.silent_from, limit_hours)}"
    )


def _beyond(took: timedelta, limit_hours: float) -> str:
    return f"{took.total_seconds() / 3600:,.1f} hours; the device's policy allows {limit_hours:g}"


def _last(folder: Path, known: _Heard | None) -> datetime | None:
    """When a controller was last heard; before the first time, when the policy was written."""
    if known is not None:
        return known.at
    try:
        written = (folder / POLICY_FILE).stat().st_mtime
    except OSError:
        return None
    return datetime.fromtimestamp(written, UTC)


def _read(folder: Path) -> _Heard | None:
    try:
        return _Heard.model_validate_json((folder / HEARD_FILE).read_bytes())
    except (OSError, ValidationError):
        return None  # a torn or foreign file tells nothing; the next word writes it anew
