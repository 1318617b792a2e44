"""Whose signatures a device believes, and how that changes while it is away: key lists, each signed by the keys before.

    trust = trust_in(folder, policy.trusted_keys, policy.required_signatures)
    trust.refusal(fingerprints)                      # None, or why these signatures are not enough
    learn(folder, chain, keys=…, required=…)         # every list in turn, or none

What belongs here: the key list as a noun, judging one against what is believed, and keeping the one that is in force.
What does not: signing lists and the controller's copies (`edge.bundle.key_lists`), the rest of a device's policy
(`admission`), and formats of signatures (`edge.release.sshsig`).

The rules (those of TUF for its root role, tuf specification 5.3):

 1. What the device's own policy lists is believed first. That file is its owner's: once it names other keys, the list
    that was in force is put aside.
 2. A list is believed when it is the next (its version one higher, following the very list before) and bears as many
    signatures as are required by keys of the list before it, and as many as it requires itself by keys of its own.
 3. Nothing goes back: a key that was revoked stays revoked, a list that was in force is not taken again.
 4. A device that was away takes every list that it missed, in turn, all of them or none.
 5. The owner's number of required signatures is the least; a list may ask for more, not for less.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from milton_assets.edge.deployment.layout import KEY_LIST_FILE, KEY_LIST_LOCK
from milton_assets.edge.release.sshsig import (
    MAX_SIGNATURE_BYTES,
    MAX_SIGNATURES,
    SignatureInvalid,
    fingerprint,
    parse_public_key,
    verify_all,
)
from milton_assets.vocabulary.digest import Sha256, sha256_bytes, sha256_json
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.strict_json import parse_json

KEY_LIST_NAMESPACE = "milton-key-list"
"""What a key list is signed for: a key's signature of anything else counts for nothing."""
MAX_LIST_BYTES = 64 << 10
MAX_CHAIN = 256
"""So many lists are taken at once; beyond it, the device's owner has to write its policy anew."""
_LOCK_WAIT_S = 10.0

Fingerprint = Annotated[str, StringConstraints(pattern=r"^SHA256:[A-Za-z0-9+/]{43}$")]


class NotBelieved(MiltonError):
    """A key list that the device does not take."""


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Revoked(_Noun):
    """A key whose signatures count for nothing any more, whatever they sign and whenever they were made."""

    fingerprint: Fingerprint
    at: AwareDatetime
    reason: str = Field(min_length=1, max_length=300)


class KeyList(_Noun):
    """Whose signatures are believed from now on. `keys` are OpenSSH lines, `required` how many of them have to sign.

    `follows` is the digest of the list before, None for the first, which follows the device's policy.
    """

    schema_version: Literal[1] = 1
    version: int = Field(ge=1, le=1 << 31)
    follows: Sha256 | None
    made_at: AwareDatetime
    required: int = Field(ge=1, le=MAX_SIGNATURES)
    keys: tuple[Annotated[str, StringConstraints(max_length=1000)], ...] = Field(min_length=1, max_length=64)
    revoked: tuple[Revoked, ...] = Field(default=(), max_length=512)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.version == 1) != (self.follows is None):
            raise ValueError("the first list follows none, and every other one follows the list before")
        try:
            found = [fingerprint(parse_public_key(line)) for line in self.keys]
        except BadInput as error:
            raise ValueError(error.problem) from None
        if len(set(found)) != len(found):
            raise ValueError("a key is listed twice")
        if self.required > len(found):
            raise ValueError(f"{self.required} signatures are required of {len(found)} keys")
        gone = [one.fingerprint for one in self.revoked]
        if len(set(gone)) != len(gone) or set(gone) & set(found):
            raise ValueError("a key is revoked twice, or both listed and revoked")
        return self

    @cached_property
    def fingerprints(self) -> frozenset[str]:
        """The fingerprints of the keys."""
        return frozenset(fingerprint(parse_public_key(line)) for line in self.keys)

    def to_json(self) -> bytes:
        """The bytes that are signed."""
        return (self.model_dump_json(indent=1) + "\n").encode()


class SignedList(_Noun):
    """A key list as it travels: its very bytes as text, and the armoured signatures of them, one after the other."""

    document: str = Field(max_length=MAX_LIST_BYTES)
    signatures: str = Field(max_length=MAX_SIGNATURE_BYTES)

    def parsed(self) -> KeyList:
        """The list, read as hostile input. Raises `BadInput`."""
        parse_json(self.document.encode(), "a key list")
        try:
            return KeyList.model_validate_json(self.document, strict=True)
        except ValidationError as error:
            raise BadInput(
                f"the key list does not hold: {error.errors()[0]['msg']:.300}",
                expected="one made by `milton keys change`",
            ) from None

    @property
    def sha256(self) -> str:
        """The digest by which the next list follows this one."""
        return sha256_bytes(self.document.encode())

    def signers(self) -> frozenset[str]:
        """The fingerprints of whoever signed it. Raises `SignatureInvalid` when one does not hold."""
        found = verify_all(self.signatures.encode(), self.document.encode(), KEY_LIST_NAMESPACE)
        return frozenset(map(fingerprint, found))


class TrustTold(_Noun):
    """What a device says of whom it believes. `version` is that of its key list, 0 where its policy alone speaks."""

    version: int = Field(ge=0)
    sha256: Sha256 | None
    required: int
    keys: tuple[str, ...]
    revoked: tuple[Revoked, ...]


@dataclass(frozen=True)
class Trust:
    """Whose signatures count. `keys` are fingerprints, `least` what the owner requires, `sha256` the list in force."""

    keys: frozenset[str]
    required: int
    least: int = 1
    version: int = 0
    sha256: str | None = None
    revoked: tuple[Revoked, ...] = field(default=())

    @classmethod
    def of_policy(cls, lines: Iterable[str], required: int) -> Trust:
        """What a device's policy says alone."""
        return cls(frozenset(fingerprint(parse_public_key(line)) for line in lines), required, least=required)

    def refusal(self, signers: Collection[str]) -> str | None:
        """Why what these keys signed is not believed, to go on from "it"; None when it is."""
        believed = self.keys & set(signers)
        if len(believed) >= self.required:
            return None
        if not signers:
            return "bears no signature that holds"
        said = [
            f"{one} was revoked on {revoked.at:%Y-%m-%d} ({revoked.reason})"
            if (revoked := self._revoked(one))
            else f"{one} is a key this device does not trust"
            for one in sorted(set(signers) - believed)
        ]
        if self.required > 1:
            said.insert(0, f"{len(believed)} of {self.required} required keys signed it")
        return f"is signed by {', '.join(sorted(signers))}: {'; '.join(said)}"

    def _revoked(self, name: str) -> Revoked | None:
        return next((one for one in self.revoked if one.fingerprint == name), None)

    def after(self, signed: SignedList) -> Trust:
        """What is believed once that list is taken. Raises `NotBelieved`, or `BadInput` for what is no list."""
        found = signed.parsed()
        try:
            signers = signed.signers()
        except (SignatureInvalid, BadInput) as error:
            raise NotBelieved(f"a signature of the key list {found.version} does not hold: {error.problem}") from None
        reasons = [*self._order_problems(found), *self._signature_problems(found, signers)]
        kept = {one.fingerprint: one for one in found.revoked}
        if lost := [one.fingerprint for one in self.revoked if one.fingerprint not in kept]:
            reasons.append(f"it takes back that {', '.join(lost)} was revoked")
        if reasons:
            raise NotBelieved(
                f"the key list {found.version} is not taken: {'; '.join(reasons)}",
                expected="the list that follows the one in force, signed by the keys before it and by its own",
                remedy="`milton keys list` shows what was made here; the policy's file is the device owner's",
            )
        return Trust(
            found.fingerprints,
            max(found.required, self.least),
            self.least,
            found.version,
            signed.sha256,
            found.revoked,
        )

    def _order_problems(self, found: KeyList) -> Iterable[str]:
        if found.version != self.version + 1:
            yield f"it has the version {found.version}, and {self.version + 1} is the next"
        elif found.follows != self.sha256:
            yield f"it follows {found.follows}, and {self.sha256} is in force"
        if len(found.keys) < self.least:
            yield f"it lists {len(found.keys)} keys, and {self.least} have to sign here"

    def _signature_problems(self, found: KeyList, signers: frozenset[str]) -> Iterable[str]:
        if len(signers & self.keys) < self.required:
            yield f"{len(signers & self.keys)} of {self.required} required keys that are believed now signed it"
        if len(signers & found.fingerprints) < max(found.required, self.least):
            yield f"{len(signers & found.fingerprints)} of {found.required} required keys of its own signed it"

    def told(self) -> TrustTold:
        """For whoever asks."""
        return TrustTold(
            version=self.version,
            sha256=self.sha256,
            required=self.required,
            keys=tuple(sorted(self.keys)),
            revoked=self.revoked,
        )


class _Kept(_Noun):
    """What lies in the target: the list in force, and the digest of the policy's keys that it grew from."""

    schema_version: Literal[1] = 1
    root: Sha256
    list: SignedList


def _root(policy: Trust) -> str:
    return sha256_json({"keys": sorted(policy.keys), "required": policy.required})


def trust_in(folder: Path, keys: Sequence[str], required: int) -> Trust:
    """Whose signatures count on the target in `folder`, whose policy lists these keys and requires so many.

    Raises `BadInput` when what lies there does not hold.
    """
    policy = Trust.of_policy(keys, required)
    path = folder / KEY_LIST_FILE
    try:
        with path.open("rb") as stream:
            raw = stream.read(4 * MAX_LIST_BYTES + 1)
    except FileNotFoundError:
        return policy
    try:
        parse_json(raw, str(path))
        kept = _Kept.model_validate_json(raw, strict=True)
        found = kept.list.parsed()
    except (ValidationError, BadInput) as error:
        raise BadInput(
            f"{path} does not hold: {error!s:.300}",
            expected="the key list that was learnt",
            remedy="remove it, and the device's policy speaks alone; `milton keys deliver` brings the lists again",
        ) from None
    if kept.root != _root(policy):
        return policy  # its owner has written another policy since
    return Trust(
        found.fingerprints, max(found.required, required), required, found.version, kept.list.sha256, found.revoked
    )


def learn(folder: Path, chain: Sequence[SignedList], *, keys: Sequence[str], required: int) -> Trust:
    """Take every list of `chain` that comes after the one in force, in turn, all of them or none; what is believed
    then.

    What is kept is the old list or the new one, whatever interrupts. Raises `NotBelieved`, and `BadInput` for what is
    no list, or more than `MAX_CHAIN`.
    """
    if len(chain) > MAX_CHAIN:
        raise BadInput(f"{len(chain)} key lists", expected=f"at most {MAX_CHAIN} at once")
    with locked(folder / KEY_LIST_LOCK, timeout_s=_LOCK_WAIT_S):
        trust = before = trust_in(folder, keys, required)
        latest: SignedList | None = None
        for signed in chain:
            if signed.parsed().version <= before.version:
                continue
            trust, latest = trust.after(signed), signed
        if latest is not None:
            root = _root(Trust.of_policy(keys, required))
            kept = _Kept(root=root, list=latest)
            write_atomic(folder / KEY_LIST_FILE, kept.model_dump_json(indent=1) + "\n")
        return trust
