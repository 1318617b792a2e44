"""The terminal, and what stands in for one when output goes to a file or a pipe.

What belongs here: how wide to draw, a line beside what is drawn, and making text that others wrote harmless to print.
What does not: what is drawn.
"""

from __future__ import annotations

import io
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 100
"""Columns where there is no terminal to ask: every table of ours fits them."""


def console() -> Console:
    """A console on standard output: as wide as the terminal, without one as `COLUMNS` says, or `PLAIN_WIDTH`."""
    from rich.console import Console  # a device has none, and prints text of others all the same

    plain = shutil.get_terminal_size((PLAIN_WIDTH, 25)).columns
    return Console(highlight=False, width=None if sys.stdout.isatty() else plain)


def tell(line: str) -> None:
    """Say a line on standard error, as ours."""
    sys.stderr.write(f"milton: {line}\n")
    sys.stderr.flush()


def show_anything() -> None:
    """Have standard output and error show what their encoding lacks as its code, instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def holds_any_text() -> bool:
    """Whether standard output's encoding has every character."""
    return (sys.stdout.encoding or "").lower().startswith("utf")


def printable(text: str) -> str:
    """Text that others wrote, for a terminal: what is not printable is shown as its code.

    So it can neither clear the screen, set a title, make a link, reverse the writing nor pass for another line. For
    rich's markup, wrap what this returns in `rich.text.Text` or `rich.markup.escape`.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _code(ord(character)) for character in text)


def _code(number: int) -> str:
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
