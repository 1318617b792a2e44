"""Copies of the goldens that decisions rest on, kept in the evidence store under their digests.

    keep_goldens(store, goldens)
    copy_of(store, sha256)

What belongs here: keeping a copy and saying whether it is there. What does not: reading goldens.

Those that ship are kept too, for the next release may ship others. A private set never leaves its place, so of it there
is none.
"""

from __future__ import annotations

from collections.abc import Iterable

from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.golden_set import TierGoldens
from resources.evidence_store import EvidenceStore

FOLDER = "goldens"


def uri_of(sha256: str) -> str:
    """Where the copy of that digest lies in the store."""
    return f"{FOLDER}/{sha256}"


def keep_goldens(store: EvidenceStore, goldens: Iterable[TierGoldens]) -> None:
    """Copy every file that is not private and not kept yet. Raises `BadInput` for one that changed just now."""
    for tier in goldens:
        for name, path in tier.files.items():
            sha256 = tier.pinned[name]
            if name in tier.private or store.digest(uri_of(sha256)) == sha256:
                continue
            content = path.read_bytes()
            if sha256_bytes(content) != sha256:
                raise BadInput(
                    f"{path} was changed while it was read", expected="goldens that stay as they are during a campaign"
                )
            store.keep(uri_of(sha256), content)


def is_kept(store: EvidenceStore, sha256: str) -> bool:
    """Whether the store holds a whole copy of the golden with that digest."""
    return store.digest(uri_of(sha256)) == sha256
