"""The terminal, and what stands in for one when output goes to a file or a pipe.

What belongs here: how wide to draw. What does not: what is drawn.
"""

from __future__ import annotations

import sys

from rich.console import Console

PLAIN_WIDTH = 100
"""Columns where there is no terminal to ask: every table of ours fits them."""


def console() -> Console:
    """A console on standard output, as wide as the terminal, or `PLAIN_WIDTH` without one."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
