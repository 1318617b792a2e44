"""Search for bytes that a parser does not stand, for a bounded time: `python -m tests.fuzz.run --seconds 300`.

What belongs here: dealing the time out among the parsers, and keeping what is found in `found/`. What does not: the
parsers (`parsers`).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import sys
import time
from pathlib import Path

from tests.fuzz.damage import MOST_CHANGES, damage
from tests.fuzz.parsers import PARSERS, Parser

FOUND = Path(__file__).parent / "found"
LONGEST_S = 10.0
"""A parser that takes longer for a few kilobytes can be kept busy by whoever sends them."""


class TooSlow(AssertionError):
    """A parser took longer than `LONGEST_S`."""


def try_bytes(parser: Parser, raw: bytes) -> None:
    """Have the parser read `raw`. Raises what it may not raise, and `TooSlow`."""
    begun = time.monotonic()
    with contextlib.suppress(*parser.errors):
        parser.read(raw)
    if (took_s := time.monotonic() - begun) > LONGEST_S:
        raise TooSlow(f"{took_s:.1f} s for {len(raw)} bytes")


def search(parser: Parser, *, until: float, start: int) -> tuple[int, bytes | None, str]:
    """Try damaged input until that monotonic instant: how many, the first fault with the fewest changes, and why."""
    seeds = parser.seeds()
    for tried, which in enumerate(itertools.count(start)):
        if time.monotonic() > until:
            return tried, None, ""
        if fault(parser, damage(seeds, parser.words, which, which % MOST_CHANGES + 1)):
            for changes in range(MOST_CHANGES + 1):
                raw = damage(seeds, parser.words, which, changes)
                if why := fault(parser, raw):
                    return tried + 1, raw, why
    raise AssertionError("unreachable")


def fault(parser: Parser, raw: bytes) -> str | None:
    """What the parser raised that it may not raise, None when it read or refused `raw`."""
    try:
        try_bytes(parser, raw)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        return f"{type(error).__name__}: {error!s:.300}"
    return None


def main() -> int:
    """Search all parsers; how many did not stand it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=300.0, help="for all parsers together")
    arguments.add_argument("--seed", type=int, default=time.time_ns() // 1_000_000, help="to repeat a search")
    arguments.add_argument("names", nargs="*", choices=[*PARSERS, []], help="only these parsers")
    given_ones = arguments.parse_args()
    names = given_ones.names or list(PARSERS)
    print(f"{given_ones.seconds:g} s for {len(names)} parsers, seed {given_ones.seed}", flush=True)
    faults = 0
    for name in names:
        until = time.monotonic() + given_ones.seconds / len(names)
        tried, raw, why = search(PARSERS[name], until=until, start=given_ones.seed)
        said = "stood them all"
        if raw is not None:
            faults += 1
            kept = FOUND / name.replace(" ", "-") / hashlib.sha256(raw).hexdigest()[:12]
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(raw)
            said = f"DID NOT STAND {len(raw)} bytes, kept in {kept}: {why}"
        print(f"{name:<16} {tried:>8,} inputs: {said}", flush=True)
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
