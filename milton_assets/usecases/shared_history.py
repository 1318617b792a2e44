"""Targets' histories between hosts: what the host of a target mirrored of it, kept where the others find it.

What belongs here: keeping a mirror in an evidence store where hosts meet, reading one that another host kept, and
telling which of two mirrors of a target is the newer. What does not: the mirror itself (`edge.deployment.history`).
Whoever changed a target keeps its history, and an older copy replaces no newer one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from milton_assets.edge.deployment import Deployment, DeploymentFailed
from milton_assets.edge.deployment.history import ended_at, parse_mirror
from milton_assets.fleet.targets import Targets
from milton_assets.vocabulary.edge_target import mirror_file
from milton_assets.vocabulary.keys import check_key

if TYPE_CHECKING:  # loading it takes as long as everything else here, and most who ask have none that others share
    from resources.evidence_store import EvidenceStore


def hand_on_history(store: EvidenceStore, targets: Targets, name: str) -> None:
    """Keep what this state folder mirrored of the target where other hosts find it, unless another's copy is newer.

    Raises `BadInput` for a mirror that does not parse, `OSError` when the store does not answer.
    """
    mirror = mirror_file(targets.state, name)
    if store.is_here or not mirror.exists():
        return
    ours = targets.mirrored(name)
    if _newer(ours, _kept_of(store, name)) is ours:
        store.keep(_uri(name), mirror.read_bytes())


@contextmanager
def handing_on(store: EvidenceStore, targets: Targets, name: str) -> Iterator[None]:
    """Hand on the target's history once the attempt in the block ended, whether it stood or not."""
    try:
        yield
    except DeploymentFailed:
        hand_on_history(store, targets, name)
        raise
    hand_on_history(store, targets, name)


def mirrored_anywhere(store: EvidenceStore, targets: Targets) -> Callable[[str], Sequence[Deployment]]:
    """What is known of a target by its name: from this state folder's mirror or another host's, whichever is newer.

    A mirror is newer that holds the other's last attempt and more; where neither holds the other's, the one whose last
    attempt ended later. A host that changed a target once must not take its own word for ever.

    Another host's paths are told as they are, for they are no paths of this machine. Raises `BadInput` for a mirror
    that does not parse.
    """

    def mirrored(name: str) -> Sequence[Deployment]:
        return _newer(targets.mirrored(name), () if store.is_here else _kept_of(store, name))

    return mirrored


def _kept_of(store: EvidenceStore, name: str) -> Sequence[Deployment]:
    uri = _uri(name)
    return parse_mirror(store.read(uri), uri, lambda told: told) if store.has(uri) else ()


def _newer(ours: Sequence[Deployment], theirs: Sequence[Deployment]) -> Sequence[Deployment]:
    if not ours or not theirs:
        return ours or theirs
    # By what they hold first: a target's clock may have been set back between two attempts.
    if any(attempt.id == theirs[-1].id for attempt in ours):
        return ours
    if any(attempt.id == ours[-1].id for attempt in theirs):
        return theirs
    return max(ours, theirs, key=lambda attempts: ended_at(attempts[-1]))


def _uri(name: str) -> str:
    return f"deployment_history/{check_key(name, 'target name')}.jsonl"
