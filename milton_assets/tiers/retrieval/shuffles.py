"""Orders that carry no signal: the same everywhere, and no friend to any id or input position.

What belongs here: the seeded hash order that shuffles pools, breaks ties and picks subsets. What does not: scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256


def hash_order(ids: Iterable[str], *salt: object) -> tuple[str, ...]:
    """The ids sorted by SHA-256 of salt and id: a fixed shuffle that depends on nothing else.

    Two different salts give independent shuffles, so the order in which a pool is shown says nothing about
    the order in which ties in it are broken.
    """
    return tuple(sorted(ids, key=lambda one: sha256("\0".join((*map(str, salt), one)).encode()).digest()))


def ranked(scores: Sequence[tuple[str, float]], *salt: object) -> tuple[tuple[str, float], ...]:
    """`(id, score)` pairs by descending score, equal scores in the hash order of their ids."""
    place = {one: index for index, one in enumerate(hash_order((one for one, _ in scores), *salt))}
    return tuple(sorted(scores, key=lambda pair: (-pair[1], place[pair[0]])))
