"""Markdown that shows text as text, for the web UI and pull requests.

    table(("model", "why"), [(version, reason)])
    f"## {text(headline)}"

What belongs here: making text that others wrote harmless in GitHub-flavoured Markdown, and the table all pages use.
What does not: what a page says, and the terminal (`terminal`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from milton_assets.vocabulary.terminal import printable

_MEANS_SOMETHING = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>&|~!$"})
_STARTS_A_BLOCK = re.compile(r"^(?:[-+=#:]|\d+(?=[.)]))")
# Words, and between them what would need an escape of its own within code.
_PIECE = re.compile(r"[^\s|`\\]+|[|`\\]")
# A renderer links an address after it has resolved backslashes, so only code keeps one from becoming a link: a URL, a
# mail address, and what a forge makes more of: somebody's name, an issue (which "fixes" may close), an emoji.
_ADDRESS = re.compile(
    r"://|www\.|@[-\w]+\.[-\w]|(?<!\w)@\w|#\d|(?<!\w)gh-\d|(?<![\w:]):[-+\w]*[a-z+][-+\w]*:", re.IGNORECASE
)


def text(foreign: str) -> str:
    """`foreign` on one line, so that no Markdown, HTML, link, image or control code in it takes effect.

    Every mark is escaped, what is not printable is shown as its code, line breaks become spaces, and an address is set
    as code. It holds in a paragraph, a heading, an item of a list and a cell of a table.
    """
    line = printable(re.sub(r"[ \t\r\n]+", " ", foreign)).strip()
    whole = _PIECE.sub(lambda piece: _shown(piece[0]), line)
    start = _STARTS_A_BLOCK.match(whole)
    if start is None:
        return whole
    # Digits cannot be escaped, what follows them can.
    at = start.end() if start[0].isdigit() else 0
    return f"{whole[:at]}\\{whole[at:]}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain cells; each is passed through `text`."""
    lines = [_row(map(text, header)), _row("---" for _ in header), *(_row(map(text, row)) for row in rows)]
    return "\n".join(lines)


def items(foreign: Iterable[str]) -> str:
    """A list of plain sentences; each is passed through `text`."""
    return "\n".join(f"- {text(sentence)}" for sentence in foreign)


def _shown(piece: str) -> str:
    return f"`{piece}`" if _ADDRESS.search(piece) else piece.translate(_MEANS_SOMETHING)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
