"""Input that was right, and then was changed in a few places.

What belongs here: the changes, and the strategy that draws them. What does not: what is done with the result.

The changes are made by a plain generator from one number, so that a search tries thousands a second and a fault shrinks
to the fewest changes that show it; in the suite Hypothesis draws that number.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import strategies as st

_NUMBERS = (b"\0", b"\xff", b"\x7f", b"\x80", bytes(4), b"\xff" * 4, bytes(8), b"\xff" * 8, b"\xff" * 7 + b"\x7f")
MOST_CHANGES = 10


def damage(seeds: Sequence[bytes], words: Sequence[bytes], which: int, changes: int) -> bytes:
    """One of the `seeds` after so many changes: bits, numbers and words put in, parts left out, doubled or moved."""
    chosen = random.Random(which)
    raw = bytearray(chosen.choice(seeds))
    for _ in range(changes):
        at = chosen.randint(0, len(raw))
        until = min(len(raw), at + chosen.choice((1, 2, 8, 64)))
        kind = chosen.randrange(8)
        if kind == 0 and at < len(raw):
            raw[at] ^= 1 << chosen.randrange(8)
        elif kind == 1:
            number = chosen.choice(_NUMBERS)
            raw[at : at + len(number)] = number
        elif kind in {2, 3} and words:
            raw[at : until if kind == 3 else at] = chosen.choice(words)
        elif kind == 4:
            del raw[at:until]
        elif kind == 5:
            raw[at:at] = raw[at:until]
        elif kind == 6:
            del raw[at if chosen.random() < 0.2 else len(raw) :]
        else:
            part = bytes(raw[at:until])
            del raw[at:until]
            to = chosen.randint(0, len(raw))
            raw[to:to] = part
    return bytes(raw)


def damaged(seeds: Sequence[bytes], words: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """What `damage` makes of the seeds."""
    return st.builds(
        lambda which, changes: damage(seeds, words, which, changes),
        st.integers(0, 2**48),
        st.integers(0, MOST_CHANGES),
    )
