"""A page as a person's browser has it: headless Chromium, driven by Playwright.

What belongs here: opening the browser, and reading a page's document back. What does not: what a page should say.
Chromium is the system's own, since Playwright's builds of it come from no package registry.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
DEADLINE_MS = 60_000
"""How long anything may take to appear; a page that has it goes on at once."""


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


@contextmanager
def browser_page() -> Iterator[Page]:
    """An empty page of a browser of its own."""
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(DEADLINE_MS)
        yield page
        browser.close()


def in_browser(path: Path) -> Document:
    """The document that the browser has of a file, once its scripts ran."""
    with browser_page() as page:
        page.goto(path.as_uri(), wait_until="load")
        return parsed(page.content())
