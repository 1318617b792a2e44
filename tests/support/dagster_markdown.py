"""What Dagster's web UI makes of Markdown: its own component, run by node, read back as elements and cells.

What belongs here: rendering and reading. What does not: what a page should say.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import dagster_webserver
import pytest

SCRIPT = Path(__file__).parent / "render_markdown.js"
UI = Path(dagster_webserver.__file__).parent / "webapp" / "build" / "_next" / "static"
NODE = shutil.which("node")
NEEDS_NODE = pytest.mark.skipif(NODE is None, reason="node is not installed, which runs the UI's own renderer")


@dataclass
class Page(HTMLParser):
    """The names of all elements, the rows of all tables, the items of all lists and all text."""

    elements: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    rows: list[list[str]] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    text: str = ""
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "li":
            self.items.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "td" in self._open or "th" in self._open:
            self.rows[-1][-1] += data
        elif "li" in self._open:
            self.items[-1] += data


def rendered(markdown: str) -> Page:
    """The page that the UI shows for `markdown`."""
    assert NODE is not None
    done = subprocess.run(
        [NODE, str(SCRIPT), str(UI)], input=markdown.encode(), capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    page = Page()
    page.feed(done.stdout.decode())
    page.close()
    return page
