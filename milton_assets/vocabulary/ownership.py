"""Whose an edge target is: which state folder's, and telling a folder that was moved from one that was copied.

    ours = owner_of(StateDir(root))          # writes state.json the first time
    claim(ours, recorded)                    # Claim.COPY: the folder that the target belongs to is still there

What belongs here: a state folder's id, written once and copied with it; the owner that a target records, which is that
id with the place where the folder was; and comparing the two. What does not: recording it, which the target's journal
does.

An id alone cannot tell a moved folder from a copied one, and a place alone cannot tell a moved one from another's. So
the target, which stays where it is, keeps both, and the folder itself keeps only the id: nothing in it speaks of where
it lies. A target that lies inside a state folder is that folder's, wherever it is moved or copied to.
"""

from __future__ import annotations

import hashlib
import secrets
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import write_once

STATE_FILE = "state.json"
_MACHINE_ID = Path("/etc/machine-id")
_SALT = b"milton-autobench"
_NO_ID = "0" * 32

StateId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class StateIdentity(BaseModel):
    """The content of `state.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    id: StateId


class Owner(BaseModel):
    """A state folder as a target outside it records it: its id, and the machine and the path where it lay.

    `machine` is a digest of the machine's id, since that is not to be told around; empty where a machine has none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: StateId
    machine: str
    path: str


class Claim(StrEnum):
    """What a state folder may say of a target."""

    OURS = "ours"
    """Nobody's yet, or this folder's where it always lay; a restored backup too."""
    MOVED = "moved"
    """This folder's: it lay elsewhere on this machine, and is there no longer."""
    COPY = "copy"
    """The folder's that this one is a copy of, or the other way round: both are there."""
    OTHER_MACHINE = "other machine"
    """A folder's of this id on another machine; whether that one is still there cannot be seen from here."""
    FOREIGN = "foreign"
    """Another folder's."""


def owner_of(root: Path) -> Owner:
    """The state folder `root` as an owner; its id is made and written when it has none yet. Raises `BadInput`."""
    write_once(root / STATE_FILE, StateIdentity(id=secrets.token_hex(16)).model_dump_json(indent=2) + "\n")
    return known_owner(root) or _no_identity(root)


def known_owner(root: Path) -> Owner | None:
    """As `owner_of`, writing nothing: None for a folder without an id."""
    if (identity := _identity(root)) is None:
        return None
    return Owner(state=identity, machine=machine(), path=str(root.resolve()))


def owner_around(path: Path) -> Owner | None:
    """The state folder inside which `path` lies, if there is one: what lies in it belongs to it."""
    return next((owner for folder in path.resolve().parents if (owner := known_owner(folder))), None)


def asking_owner(root: Path) -> Owner:
    """As `known_owner`, for whoever only asks: a folder without an id asks as one that owns nothing."""
    return known_owner(root) or Owner(state=_NO_ID, machine=machine(), path=str(root.resolve()))


def claim(ours: Owner, recorded: Owner | None) -> Claim:
    """What the state folder `ours` may say of a target that recorded that owner."""
    if recorded is None:
        return Claim.OURS
    if recorded.state != ours.state:
        return Claim.FOREIGN
    if recorded.machine and ours.machine and recorded.machine != ours.machine:
        return Claim.OTHER_MACHINE
    if recorded.path == ours.path:
        return Claim.OURS
    return Claim.COPY if _identity(Path(recorded.path)) == ours.state else Claim.MOVED


def machine() -> str:
    """A digest that tells this machine from others; empty where it has no id, as in most containers."""
    try:
        told = _MACHINE_ID.read_bytes().strip()
    except OSError:
        return ""
    return hashlib.sha256(_SALT + told).hexdigest()[:16] if told else ""


def _identity(root: Path) -> str | None:
    path = root / STATE_FILE
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return StateIdentity.model_validate_json(raw).id
    except ValidationError:
        raise BadInput(
            f"{path} holds no id of a state folder",
            expected="the file as it was written once",
            remedy="restore it from a backup; without it, move it away, and adopt the targets that lie outside again",
        ) from None


def _no_identity(root: Path) -> Owner:
    raise BadInput(f"{root / STATE_FILE} went away while it was read", remedy="try again")
