"""Draw the documentation's pictures of a decision from a run: its card, and the first screen of its page.

    python docs/make_pictures.py ~/.local/state/milton/benchmarks/runs/benchmark_20260111_142500.json

What belongs here: pictures for the documentation. What does not: those of the product (`milton results --pictures`).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from milton_assets.selection import card
from milton_assets.selection.summary import read_summary
from milton_assets.tiers.discovery import installed_tiers

IMAGES = Path(__file__).parent / "images"
FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""The picture is drawn with the reader's own monospace font, and fetches none."""
SCREEN = (1100, 860)
"""Width and height of the page's first screen, in pixels."""


def main(summary: Path) -> None:
    """Write `docs/images/decision.svg`, and `docs/images/report.png` with Chromium."""
    IMAGES.mkdir(exist_ok=True)
    draw_card(summary)
    draw_page(summary.with_suffix(".html"))


def draw_card(summary: Path) -> None:
    """The card as a terminal shows it."""
    console = Console(record=True, width=100, file=StringIO(), highlight=False)
    card.render(read_summary(summary.parent, summary.stem).decision, console, installed_tiers())
    (IMAGES / "decision.svg").write_text(FONT_FACE.sub("", console.export_svg(title="milton results")))


def draw_page(page: Path) -> None:
    """The first screen of the run's page, as a browser shows it."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("there is no Chromium on PATH, which draws the page")
    with TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={profile}",
                f"--window-size={SCREEN[0]},{SCREEN[1]}",
                f"--screenshot={IMAGES / 'report.png'}",
                page.absolute().as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
