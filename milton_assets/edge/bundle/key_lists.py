"""The key lists that this state folder makes: each in force once enough keys have signed it, and one in the making.

    lists = KeyLists(state.keys)
    lists.propose(add=(line,), required=1, now=now)
    lists.sign(key)                        # True once it is in force
    target.learn_keys(lists.chain())

What belongs here: making the next list, adding signatures to it, and the chain of those in force as files
(`lists/<version>.json`, the next one in `lists/next.json`). What does not: what a list is and when a device takes it
(`edge.deployment.trust`), and key files (`keys`).

What is enough here is what a device wants of it: as many signatures as the list before requires by that list's keys,
and its own number by its own. Whom a device's policy lists before the first list is not known here, so that one has to
bear a signature of the key in this folder, and the device decides.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from milton_assets.edge.bundle.keys import KeyFiles, init_keys, load_private_key, load_public_key
from milton_assets.edge.deployment.trust import (
    KEY_LIST_NAMESPACE,
    MAX_LIST_BYTES,
    KeyList,
    Revoked,
    SignedList,
    Trust,
)
from milton_assets.edge.release.sshsig import PrivateKey, fingerprint, parse_public_key, public_line, sign
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import entries, fsync_dir, write_atomic
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.strict_json import parse_json

LISTS_DIR = "lists"
NEXT_FILE = "next.json"
_VERSION = re.compile(r"([1-9]\d{0,9})\.json")


@dataclass(frozen=True)
class Missing:
    """What a list in the making lacks: signatures by keys of the list before, and by keys of its own."""

    before: int
    own: int

    def __bool__(self) -> bool:
        return bool(self.before or self.own)

    def __str__(self) -> str:
        said = [(self.before, "of the keys before it"), (self.own, "of its own keys")]
        return " and ".join(f"{count} {what}" for count, what in said if count) or "nothing"


@dataclass(frozen=True)
class KeyLists:
    """The key lists in the folder `keys`, where the signing key lies."""

    keys: Path

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.keys / LISTS_DIR

    @property
    def next_path(self) -> Path:
        """Where the list in the making lies: what other signers are given, and give back."""
        return self.folder / NEXT_FILE

    def chain(self) -> tuple[SignedList, ...]:
        """The lists in force, oldest first. Raises `BadInput` when one is missing or does not hold, and `OSError`."""
        found = {int(m[1]): path for path in entries(self.folder) if (m := _VERSION.fullmatch(path.name))}
        if sorted(found) != list(range(1, len(found) + 1)):
            raise BadInput(
                f"{self.folder} holds the key lists {sorted(found)}",
                expected="every one from 1 on",
                remedy="restore what is missing from a backup: a device that was away needs each of them",
            )
        chain = tuple(_read(found[version]) for version in sorted(found))
        for version, signed in enumerate(chain, 1):
            if signed.parsed().version != version:
                raise BadInput(
                    f"{found[version]} is the key list {signed.parsed().version}", expected=f"list {version}"
                )
        return chain

    def trust(self) -> Trust:
        """Whom devices believe that know every list made here; before the first, the key in this folder."""
        chain = self.chain()
        if not chain:
            public = KeyFiles(self.keys).public
            return Trust(frozenset({fingerprint(load_public_key(public))}), 1)
        last = chain[-1].parsed()
        return Trust(last.fingerprints, last.required, 1, last.version, chain[-1].sha256, last.revoked)

    def lines(self) -> tuple[str, ...]:
        """The keys that are believed now, as OpenSSH lines."""
        chain = self.chain()
        if chain:
            return chain[-1].parsed().keys
        return (public_line(load_public_key(KeyFiles(self.keys).public)),)

    def propose(
        self,
        *,
        now: datetime,
        add: Collection[str] = (),
        drop: Collection[str] = (),
        revoke: Collection[str] = (),
        reason: str = "",
        required: int | None = None,
    ) -> KeyList:
        """Begin the next list: what is believed now, with these lines added, these fingerprints dropped or revoked.

        Raises `BadInput` when one is in the making, nothing would change, or what comes of it is no list.
        """
        with locked(self.folder / ".lock", timeout_s=10):
            if self.next_path.exists():
                raise BadInput(
                    f"{self.next_path} is in the making",
                    expected="one list at a time",
                    remedy="`milton keys sign-list` it, or remove the file",
                )
            before, chain, gone = self.trust(), self.chain(), {*drop, *revoke}
            by_name = {fingerprint(parse_public_key(line)): line for line in (*self.lines(), *add)}
            if unknown := sorted(set(drop) - by_name.keys()):
                raise BadInput(f"nobody believes {', '.join(unknown)}", expected=f"one of {', '.join(sorted(by_name))}")
            known = {one.fingerprint for one in before.revoked}
            newly = [Revoked(fingerprint=name, at=now, reason=reason) for name in sorted(set(revoke) - known)]
            document = {
                "version": len(chain) + 1,
                "follows": chain[-1].sha256 if chain else None,
                "made_at": now,
                "required": before.required if required is None else required,
                "keys": tuple(line for name, line in by_name.items() if name not in gone),
                "revoked": (*before.revoked, *newly),
            }
            try:
                made = KeyList.model_validate(document)
            except ValidationError as error:
                raise BadInput(f"that makes no key list: {error.errors()[0]['msg']}") from None
            if (made.fingerprints, made.required, made.revoked) == (before.keys, before.required, before.revoked):
                raise BadInput("nothing would change", expected="a key to add, drop or revoke, or another number")
            self._keep(self.next_path, SignedList(document=made.to_json().decode(), signatures=""))
            return made

    def sign(self, *keys: PrivateKey) -> Missing:
        """Add the signatures of `keys` to the list in the making; what it lacks then: nothing, once it is in force.

        Raises `BadInput` when there is none.
        """
        with locked(self.folder / ".lock", timeout_s=10):
            if not self.next_path.exists():
                raise BadInput("no key list is in the making", remedy="`milton keys change` begins one")
            signed = _read(self.next_path)
            have = signed.signers() if signed.signatures else frozenset()
            for key in keys:
                if fingerprint(key.public_key()) in have:
                    continue
                more = sign(signed.document.encode(), key, KEY_LIST_NAMESPACE).decode()
                signed = SignedList(document=signed.document, signatures=signed.signatures + more)
                have = signed.signers()
            made = signed.parsed()
            before = self.trust()
            missing = Missing(
                max(0, before.required - len(have & before.keys)), max(0, made.required - len(have & made.fingerprints))
            )
            if missing:
                self._keep(self.next_path, signed)
            else:
                before.after(signed)  # what we would not take ourselves, no device is given
                self._keep(self.folder / f"{made.version}.json", signed)
                self.next_path.unlink()
            return missing

    def in_the_making(self) -> SignedList | None:
        """The list in the making."""
        return _read(self.next_path) if self.next_path.exists() else None

    @staticmethod
    def _keep(path: Path, signed: SignedList) -> None:
        write_atomic(path, signed.model_dump_json(indent=1) + "\n")


def _read(path: Path) -> SignedList:
    try:
        with path.open("rb") as stream:
            raw = stream.read(4 * MAX_LIST_BYTES + 1)
        parse_json(raw, str(path))
        return SignedList.model_validate_json(raw, strict=True)
    except (OSError, ValidationError, BadInput) as error:
        raise BadInput(f"{path} is no signed key list: {error!s:.300}", remedy="restore it from a backup") from None


def rotate(lists: KeyLists, *, now: datetime, reason: str | None = None) -> Missing:
    """Replace the key in the folder by a new one, which the old one vouches for; what the list lacks until it counts.

    With a `reason` the old key is revoked, else only dropped. The new pair waits in `next/` until its list is in force;
    then the old pair goes to `retired/` and the new one takes its place. Called again, it goes on where it was.
    """
    waiting, own = KeyFiles(lists.keys / "next"), KeyFiles(lists.keys)
    if not waiting.folder.exists():
        init_keys(waiting.folder)
    if waiting.public.exists():
        line = public_line(load_public_key(waiting.public))
        new, old = fingerprint(parse_public_key(line)), fingerprint(load_public_key(own.public))
        if new not in lists.trust().keys:
            if lists.in_the_making() is None:
                gone = {"revoke": (old,), "reason": reason} if reason else {"drop": (old,)}
                lists.propose(now=now, add=(line,), **gone)
            missing = lists.sign(load_private_key(own.private), load_private_key(waiting.private))
            if missing:
                return missing
        retired = lists.keys / "retired" / f"{now:%Y%m%d_%H%M%S}"
        retired.mkdir(parents=True, mode=0o700, exist_ok=True)
        for path in (own.private, own.public, own.public_pem, own.allowed_signers):
            if path.exists() and not (retired / path.name).exists():
                (retired / path.name).hardlink_to(path)
    # The public line goes last: while it waits, so does everything that is not in its place yet.
    for path in (waiting.private, waiting.public_pem, waiting.allowed_signers, waiting.public):
        if path.exists():
            path.replace(own.folder / path.name)
    fsync_dir(own.folder)
    waiting.folder.rmdir()
    return Missing(0, 0)
