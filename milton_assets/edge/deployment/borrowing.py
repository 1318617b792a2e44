"""A release is tried in the memory of the one that serves, where there is none beside it.

    if (folder := to_borrow_for(target, artefact)) is not None:
        with borrowed(target, folder) as lent:       # users are held; the gateway serves that release to us alone
            …                                        # ask at lent.base_url

What belongs here: the borrower's side, what both sides write, and how much could be lent. What does not: the gateway's
side (`edge.serving.lending`), and what is asked of a release (`loadtest`).

Both sides meet in the target's folder, by files whose locks the kernel drops with their holder, so that whoever dies
owes nothing: the gateway holds `gateway.json` as long as it lends, the borrower holds `borrower.json`, which names the
release, as long as it asks, and `loan.json` is the gateway's answer to that very borrower. A release that was tried and
then becomes current is in memory already and serves on (docs/adr/0269).
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from milton_assets.edge.deployment.capacity import Memory, device_memory
from milton_assets.edge.deployment.layout import BORROWER_FILE, GATEWAY_FILE, LOAN_FILE
from milton_assets.edge.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, BundleManifest, parse_manifest
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.locks import acquire, is_held

LEND_WITHIN_S = 1800.0
"""How long a borrower waits: what serves is drained first, and the release loads."""
_POLL_S = 0.05
_GLANCE_S = 1.0
_MAX_BYTES = 1 << 16

Noun = TypeVar("Noun", bound=BaseModel)


class NotLent(MiltonError):
    """The gateway does not serve the release to us."""


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Lends(_Said):
    """What a gateway says of itself: its process, and whether it ever has memory for two models (`auto`)."""

    pid: Annotated[int, Field(ge=1)]
    mode: Literal["one", "auto"]


class Wanted(_Said):
    """What a borrower wants served: the release in an absolute folder. `id` is the borrower's own."""

    id: str
    folder: str
    release: Sha256


class Lent(_Said):
    """Where the release answers, to nobody else. `load_s` is how long it took to load; `problem` is why it does not
    answer.
    """

    id: str
    base_url: str = ""
    model: str = ""
    slots: Annotated[int, Field(ge=1)] = 1
    load_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    pid: int = 0
    problem: str | None = None


def lender_of(target: Path) -> Lends | None:
    """The gateway that would lend its memory; None where nobody serves, or it always has memory for two."""
    return said_in(target / GATEWAY_FILE, Lends) if is_held(target / GATEWAY_FILE) else None


def wanted_in(target: Path) -> Wanted | None:
    """What a borrower wants now, None while there is none."""
    return said_in(target / BORROWER_FILE, Wanted) if is_held(target / BORROWER_FILE) else None


def said_in(path: Path, noun: type[Noun]) -> Noun | None:
    """What a file says; None while it is not there, or is being written."""
    try:
        with path.open("rb") as stream:
            return noun.model_validate_json(stream.read(_MAX_BYTES))
    except (FileNotFoundError, ValidationError):
        return None


@contextmanager
def saying(path: Path, said: BaseModel, *, wait_s: float = _GLANCE_S) -> Iterator[bool]:
    """Hold that file, which says so, for the length of the block; whether it could be had."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    is_ours = False
    try:
        is_ours = acquire(handle, wait_s=wait_s)
        if is_ours:
            os.truncate(handle, 0)
            os.pwrite(handle, said.model_dump_json().encode(), 0)
        yield is_ours
    finally:
        if is_ours:
            os.truncate(handle, 0)  # whoever holds it next has said nothing yet
        os.close(handle)


def memory_at(target: Path) -> Memory:
    """This machine's memory now, with what the target's gateway would lend."""
    lender = lender_of(target)
    return replace(device_memory(), lendable_bytes=0 if lender is None else lendable_bytes(lender.pid))


def lendable_bytes(pid: int) -> int:
    """What ends with the model servers of the gateway `pid`: their own pages. A mapped file's count as available."""
    total = 0
    try:
        for process in psutil.Process(pid).children(recursive=True):
            told = process.memory_info()
            total += max(0, told.rss - getattr(told, "shared", 0))
    except psutil.Error:  # they end meanwhile
        return total
    return total


def to_borrow_for(target: Path, artefact: Path, memory: Memory | None = None) -> Path | None:
    """The folder of the release whose `artefact` can be tried only in the memory of what serves; None when there is
    room beside it, or nobody lends. Raises `BadInput` when the artefact is in no release.
    """
    lender = lender_of(target)
    if lender is None:
        return None
    folder = next((parent for parent in artefact.parents if (parent / MANIFEST_FILE).is_file()), None)
    if folder is None:
        raise BadInput(f"{artefact} is in no release", expected=f"a folder above it with {MANIFEST_FILE}")
    needed = _manifest_in(folder).requirements.ram_bytes
    has_room = lender.mode == "auto" and needed <= (memory or device_memory()).available_bytes
    return None if has_room else folder.resolve()


def _manifest_in(folder: Path) -> BundleManifest:
    with (folder / MANIFEST_FILE).open("rb") as stream:
        return parse_manifest(stream.read(MAX_MANIFEST_BYTES + 1))


@contextmanager
def borrowed(target: Path, folder: Path, *, within_s: float = LEND_WITHIN_S) -> Iterator[Lent]:
    """Have the gateway serve the release in `folder` in place of what serves, to us alone, for the block's length.

    Raises `NotLent` when it does not answer there, nobody lends any more, or another borrower is at it.
    """
    wanted = Wanted(id=secrets.token_hex(8), folder=str(folder), release=_manifest_in(folder).release_digest)
    with saying(target / BORROWER_FILE, wanted) as is_ours:
        if not is_ours:
            raise NotLent("another release is being tried already", expected="one at a time", remedy="wait for it")
        yield _answer(target, wanted, time.monotonic() + within_s)


def _answer(target: Path, wanted: Wanted, until: float) -> Lent:
    while True:
        lent = said_in(target / LOAN_FILE, Lent)
        if lent is not None and lent.id == wanted.id:
            if lent.problem is not None:
                raise NotLent(lent.problem)
            return lent
        if lender_of(target) is None:
            raise NotLent("the gateway that was to try the release has ended", remedy="deploy again")
        if time.monotonic() > until:
            raise NotLent(
                "the gateway did not come to try the release in its memory",
                expected="what it serves to drain, and the release to load",
                remedy="its health.jsonl says what it does; deploy again when fewer users ask",
            )
        time.sleep(_POLL_S)
