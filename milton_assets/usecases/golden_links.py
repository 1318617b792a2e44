"""The goldens in a chain of proof: an old decision is held against the copies it was taken on, not against today's.

What belongs here: what is broken about a decision's goldens, and what is only worth a note. What does not: the rest of
the chain (`trace`) and keeping copies (`resources.golden_copies`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.evidence import EvidenceManifest
from resources.evidence_store import EvidenceStore
from resources.golden_copies import is_kept, uri_of

_COPIES_SINCE = 2
"""The version of the manifest since which decisions keep copies."""


def broken_goldens(manifest: EvidenceManifest, store: EvidenceStore) -> Iterator[str]:
    """A sentence for each golden of which a copy should be kept and is not, or is another."""
    if manifest.manifest_version < _COPIES_SINCE:
        return
    for name, sha256 in manifest.goldens.items():
        if name not in manifest.private_goldens and not is_kept(store, sha256):
            found = store.digest(uri_of(sha256))
            yield f"the copy of the golden {name} {'is missing' if found is None else f'was changed: it is {found}'}"


def notes_on_goldens(manifest: EvidenceManifest, today: Callable[[], Mapping[str, str]]) -> Iterator[str]:
    """A sentence for each golden that is another today, or of which no copy could be kept."""
    try:
        now = today()
    except MiltonError as error:
        yield f"today's goldens cannot be read: {error}"
        now = {}
    for name, sha256 in manifest.goldens.items():
        if name in manifest.private_goldens:
            yield f"the golden {name} is private: its digest {short(sha256)} is pinned, and no copy is kept"
        elif now.get(name) != sha256:
            kept = "the decision was taken on" if manifest.manifest_version >= _COPIES_SINCE else "no copy is kept of"
            is_now = short(now[name]) if name in now else "not used"
            yield f"the golden {name} is {is_now} today; {kept} {short(sha256)}"
