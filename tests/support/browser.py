"""A page as a browser has it, after its scripts ran: headless Chromium where it is installed.

What belongs here: loading a file and reading the document back. What does not: what a page should say.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@dataclass
class Document(HTMLParser):
    """Every element with its attributes in order, and all text that is shown; scripts and styles apart, by kind."""

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""
    inlined: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag in {"script", "style"}:
            self.inlined.append((tag, ""))

    def handle_data(self, data: str) -> None:
        if self.elements and self.cdata_elem is not None:
            tag, before = self.inlined[-1]
            self.inlined[-1] = (tag, before + data)
        else:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element of that name."""
        return [attributes for name, attributes in self.elements if name == tag]


def parsed(html: str) -> Document:
    """The document that an HTML parser makes of the text; no script runs."""
    document = Document()
    document.feed(html)
    document.close()
    return document


def in_browser(path: Path, profile: Path) -> Document:
    """The document that Chromium has once the page's scripts ran."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
        "--virtual-time-budget=3000",
        "--dump-dom",
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return parsed(done.stdout)
