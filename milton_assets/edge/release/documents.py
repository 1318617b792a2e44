"""What a release says of itself: manifest, sums and signatures, read once as hostile input and kept.

What belongs here: reading those files, and holding them against each other. What does not: the listed files
(`verify`), whom to believe (`edge.deployment.admission`), and where the bytes came from: a folder, an archive's head
and a delta's head are all read here.

Nothing is checked in one place and used in another: what is written to a target comes from these very bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from milton_assets.edge.manifest import (
    DECISION_FILE,
    EVIDENCE_FILE,
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    MODEL_SIGNATURE_FILE,
    REGISTRY_ENTRY_FILE,
    SIGNATURE_FILES,
    SSH_SIGNATURE_FILE,
    SUMMARY_FILE,
    SUMS_FILE,
    BundleManifest,
    parse_manifest,
)
from milton_assets.edge.release.dsse import MAX_MODEL_SIGNATURE_BYTES, check_model_signature
from milton_assets.edge.release.folder import Folder
from milton_assets.edge.release.report import Problem, ProblemKind
from milton_assets.edge.release.signature import SignatureInvalid, keys_that_signed
from milton_assets.edge.release.sshsig import MAX_SIGNATURE_BYTES, PublicKey, fingerprint
from milton_assets.edge.release.sums import MAX_SUMS_BYTES, parse_sums
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput

MAX_DOCUMENT_BYTES = 64 << 20
UNLISTED_LIMITS = {
    MANIFEST_FILE: MAX_MANIFEST_BYTES,
    SUMS_FILE: MAX_SUMS_BYTES,
    SSH_SIGNATURE_FILE: MAX_SIGNATURE_BYTES,
    MODEL_SIGNATURE_FILE: MAX_MODEL_SIGNATURE_BYTES,
}
"""The files that a manifest does not list, the manifest first, and how many bytes each may have."""
CHAIN_DOCUMENTS = {
    **UNLISTED_LIMITS,
    **dict.fromkeys((DECISION_FILE, SUMMARY_FILE, EVIDENCE_FILE, REGISTRY_ENTRY_FILE), MAX_DOCUMENT_BYTES),
}
"""What the chain from a deployment to its weights is followed by, and how many bytes each may have."""


@dataclass(frozen=True)
class ReleaseDocuments:
    """A release's manifest, and the bytes of the files that it does not list (itself among them), by name.

    `unreadable` are signatures that lie there and cannot be read.
    """

    manifest: BundleManifest
    unlisted: Mapping[str, bytes]
    unreadable: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, unlisted: Mapping[str, bytes], where: str, unreadable: tuple[Problem, ...] = ()) -> ReleaseDocuments:
        """These bytes, parsed. Raises `BadInput` when manifest or sums are missing or do not hold."""
        for name in (MANIFEST_FILE, SUMS_FILE):
            if name not in unlisted:
                raise _lacks(where, name)
        documents = cls(parse_manifest(unlisted[MANIFEST_FILE]), unlisted, unreadable)
        parse_sums(unlisted[SUMS_FILE])
        return documents

    @property
    def manifest_sha256(self) -> str:
        """Digest of `manifest.json` as it was read."""
        return sha256_bytes(self.unlisted[MANIFEST_FILE])

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return self.manifest.payload_bytes + sum(map(len, self.unlisted.values()))

    @property
    def needed_bytes(self) -> int:
        """Room that the release takes: what its manifest asks for, and at least its files."""
        return max(self.size_bytes, self.manifest.requirements.disk_bytes)

    @property
    def is_signed(self) -> bool:
        """Whether it bears an SSH signature, which may or may not hold."""
        return SSH_SIGNATURE_FILE in self.unlisted

    def signers(self) -> tuple[PublicKey, ...]:
        """The keys whose SSH signatures of the sums hold; none when it bears none. Raises `SignatureInvalid`."""
        armoured = self.unlisted.get(SSH_SIGNATURE_FILE)
        return () if armoured is None else keys_that_signed(armoured, self.unlisted[SUMS_FILE])

    def fingerprints(self) -> frozenset[str]:
        """The fingerprints of `signers`; none where a signature does not hold, which is told among the problems."""
        try:
            return frozenset(map(fingerprint, self.signers()))
        except (SignatureInvalid, BadInput):
            return frozenset()

    def problems(self, trusted: Collection[str] | None = None) -> Iterator[Problem]:
        """Where manifest and sums disagree, and signatures that do not hold.

        With `trusted` (fingerprints), one of those keys must have signed.
        """
        yield from self._sums_problems()
        yield from self.unreadable or self._signature_problems(trusted)

    def _sums_problems(self) -> Iterator[Problem]:
        sums = parse_sums(self.unlisted[SUMS_FILE])
        expected = {entry.path: entry.sha256 for entry in self.manifest.files} | {MANIFEST_FILE: self.manifest_sha256}
        for path in sorted(expected.keys() | sums.keys()):
            said, found = sums.get(path), expected.get(path)
            if said is None:
                yield Problem(ProblemKind.MALFORMED, SUMS_FILE, f"does not list {path}")
            elif found is None:
                yield Problem(ProblemKind.MALFORMED, SUMS_FILE, f"lists {path}, which the manifest does not")
            elif said != found:
                yield Problem(ProblemKind.DIGEST, path, f"{SUMS_FILE} says {said}, but it is {found}")

    def _signature_problems(self, trusted: Collection[str] | None) -> Iterator[Problem]:
        try:
            keys = self.signers()
        except (SignatureInvalid, BadInput) as error:
            yield Problem(ProblemKind.SIGNATURE, SSH_SIGNATURE_FILE, f"its signature does not hold: {error.problem}")
            return
        found = [fingerprint(key) for key in keys]
        if trusted is not None and not found:
            yield Problem(ProblemKind.SIGNATURE, SSH_SIGNATURE_FILE, "is missing: it is not signed")
        if found and trusted is not None and not set(found) & set(trusted):
            yield Problem(ProblemKind.SIGNATURE, SSH_SIGNATURE_FILE, f"is by {', '.join(found)}, which is not trusted")
        raw = self.unlisted.get(MODEL_SIGNATURE_FILE)
        if raw is not None:
            try:
                check_model_signature(raw, self.manifest.name, self._model_signed(), keys, MODEL_SIGNATURE_FILE)
            except (SignatureInvalid, BadInput) as error:
                yield Problem(ProblemKind.SIGNATURE, MODEL_SIGNATURE_FILE, f"does not hold: {error.problem}")

    def _model_signed(self) -> dict[str, str]:
        """Path and SHA-256 of what `model.sig` covers."""
        covered = {entry.path: entry.sha256 for entry in self.manifest.files}
        beside = (MANIFEST_FILE, SUMS_FILE, SSH_SIGNATURE_FILE)
        return covered | {name: sha256_bytes(self.unlisted[name]) for name in beside if name in self.unlisted}


def read_documents(folder: Folder) -> ReleaseDocuments:
    """What the folder says of itself; signatures only if there.

    Raises `BadInput` when manifest or sums are missing, do not hold, are too long or no regular files.
    """
    found: dict[str, bytes] = {}
    unreadable = []
    for name, limit in UNLISTED_LIMITS.items():
        try:
            found[name] = folder.read(name, limit)
        except FileNotFoundError:
            if name not in SIGNATURE_FILES:
                raise _lacks(str(folder.path), name) from None
        except BadInput as error:
            if name not in SIGNATURE_FILES:
                raise
            unreadable.append(Problem(ProblemKind.SIGNATURE, name, f"does not hold: {error.problem}"))
    return ReleaseDocuments.of(found, str(folder.path), tuple(unreadable))


def read_manifest(release: Path | Folder) -> BundleManifest:
    """The release's manifest. Raises `BadInput` when it is missing or does not hold; says nothing of the files."""
    return parse_manifest(read_document(release, MANIFEST_FILE))


def read_sums(release: Path | Folder) -> dict[str, str]:
    """The release's `SHA256SUMS` as `{path: SHA-256}`. Raises `BadInput` when it is missing or does not hold."""
    return parse_sums(read_document(release, SUMS_FILE))


def read_document(release: Path | Folder, name: str) -> bytes:
    """The bytes of one of the release's documents.

    Raises `BadInput` when it is missing, too long or no regular file.
    """
    if isinstance(release, Path):
        with Folder(release) as folder:
            return read_document(folder, name)
    try:
        return release.read(name, UNLISTED_LIMITS.get(name, MAX_DOCUMENT_BYTES))
    except FileNotFoundError:
        raise _lacks(str(release.path), name) from None


def _lacks(where: str, name: str) -> BadInput:
    return BadInput(
        f"{where} holds no {name}",
        expected="a bundle made by `milton bundle create`",
        remedy="name the bundle's own folder, or make the bundle again",
    )
