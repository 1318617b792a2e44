"""What verifying a release found.

What belongs here: the problems as nouns, the report on them, and the one error it turns into. What does not: looking
for them (`verify`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from milton_assets.edge.manifest import BundleManifest
from milton_assets.vocabulary.errors import MiltonError

_MOST_PROBLEMS = 20


class ProblemKind(StrEnum):
    """What can be wrong with a release."""

    MALFORMED = "malformed"
    MISSING = "missing"
    EXTRA = "extra"
    SIZE = "size"
    DIGEST = "digest"
    SYMLINK = "symlink"
    SPECIAL = "special"
    LINKED = "linked"
    UNREADABLE = "unreadable"
    CHAIN = "chain"
    SIGNATURE = "signature"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: with which path, and a sentence that goes on from it."""

    kind: ProblemKind
    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path if self.path.isprintable() else ascii(self.path)}: {self.detail}"


class ReleaseDamaged(MiltonError):
    """A release that is not what its manifest says, or whose manifest is not what its documents say."""


@dataclass(frozen=True)
class VerificationReport:
    """What was found. `manifest` is None when it does not hold; `notes` are worth knowing but no problems.

    `signers` are the fingerprints of the keys whose signatures hold.
    """

    path: Path
    problems: tuple[Problem, ...]
    files_checked: int = 0
    bytes_checked: int = 0
    manifest: BundleManifest | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    signers: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the release is what its manifest says."""
        return not self.problems

    def require(self) -> BundleManifest:
        """The manifest of a release that holds. Raises `ReleaseDamaged` naming the problems otherwise."""
        if self.problems or self.manifest is None:
            raise damaged(self.path, self.problems)
        return self.manifest

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "path": str(self.path),
            "ok": self.ok,
            "name": self.manifest.name if self.manifest else None,
            "release_digest": self.manifest.release_digest if self.manifest else None,
            "signers": list(self.signers),
            "files_checked": self.files_checked,
            "bytes_checked": self.bytes_checked,
            "problems": [{"kind": p.kind.value, "path": p.path, "detail": p.detail} for p in self.problems],
            "notes": list(self.notes),
        }


def damaged(where: Path, problems: Iterable[Problem]) -> ReleaseDamaged:
    """The error that names the first few problems of a release."""
    said = list(map(str, problems))
    more = f"; and {len(said) - _MOST_PROBLEMS} more" if len(said) > _MOST_PROBLEMS else ""
    return ReleaseDamaged(
        f"{where} is not what its manifest says: {'; '.join(said[:_MOST_PROBLEMS])}{more}",
        expected="every listed file, byte for byte, and no other",
        remedy="get the bundle again, or make it again with `milton bundle create`",
    )
