"""Which build of llama.cpp a model server is, as a number that can be compared.

What belongs here: reading that number from what servers, wheels and programs say of themselves. What does not: asking
them (`resources`), and what follows from it (`edge.deployment.capacity`).

llama.cpp counts its builds: every tag is `b` and a number. `llama-server` says `b11434-0a1b2c3` on its pages and
`version: 11434 (0a1b2c3)` for `--version`; the wheel `xllamacpp` carries the tag that it was made from as the last part
of its version (`2026.10.11434`), since the server inside calls itself `b0-unknown`.
"""

from __future__ import annotations

import re

LLAMA_CPP = "llama.cpp"
"""How servers of llama.cpp are named, with what they are embedded in after it."""
_SAID = (
    re.compile(r"\bxllamacpp \d+\.\d+\.(\d{3,9})\b"),
    re.compile(r"\bversion: (\d{1,9}) \("),
    re.compile(r"\bb(\d{1,9})(?:-|\b)"),
)


def llama_build(said: str | None) -> int | None:
    """The build's number; None where nothing is said, or what is said is no build that llama.cpp counted."""
    for pattern in _SAID:
        if said and (found := pattern.search(said)):
            return int(found[1]) or None
    return None
