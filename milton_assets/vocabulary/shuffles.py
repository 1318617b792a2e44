"""Orders and draws that carry no signal: the same everywhere, and no friend to any id or input position.

What belongs here: the seeded hash order that shuffles pools, breaks ties and picks subsets, and whole numbers drawn in
the same way. What does not: scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256


def hash_order(ids: Iterable[str], *salt: object) -> tuple[str, ...]:
    """The ids sorted by SHA-256 of salt and id: a fixed shuffle that depends on nothing else.

    Two different salts give independent shuffles, so the order in which a pool is shown says nothing about
    the order in which ties in it are broken.
    """
    return tuple(sorted(ids, key=lambda one: _digest(*salt, one)))


def ranked(scores: Sequence[tuple[str, float]], *salt: object) -> tuple[tuple[str, float], ...]:
    """`(id, score)` pairs by descending score, equal scores in the hash order of their ids."""
    place = {one: index for index, one in enumerate(hash_order((one for one, _ in scores), *salt))}
    return tuple(sorted(scores, key=lambda pair: (-pair[1], place[pair[0]])))


def drawn(size: int, *salt: object) -> int:
    """A number from 0 to `size` - 1, each as likely as the others; another salt draws independently.

    It is SHA-256 of the salt, so it is the same on every machine and in every release of Python; the bias of the
    remainder is below `size` / 2^256.
    """
    return int.from_bytes(_digest(*salt)) % size


def _digest(*parts: object) -> bytes:
    return sha256("\0".join(map(str, parts)).encode()).digest()
