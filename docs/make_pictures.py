"""Draw the documentation's pictures from a run that deployed: why its file is on the device, its card, its page.

    python docs/make_pictures.py ~/.local/state/milton/benchmarks/runs/benchmark_20260111_142500.json

What belongs here: pictures for the documentation. What does not: those of the product (`milton results --pictures`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import Environment
from markupsafe import Markup
from rich.console import Console

from milton_assets.report.charts import decision_charts
from milton_assets.report.drawing import draw
from milton_assets.selection import card
from milton_assets.selection.decision import Decision
from milton_assets.selection.summary import read_summary
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.vocabulary.digest import short

IMAGES = Path(__file__).parent / "images"
FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""The picture is drawn with the reader's own monospace font, and fetches none."""
SCREEN = (1100, 860)
"""Width and height of the page's first screen, in pixels."""
WHY = (1040, 904)
"""Width and height of the README's picture, in pixels that are drawn twice as fine."""


def main(summary: Path) -> None:
    """Write `docs/images/decision.svg`, and with Chromium `docs/images/why.png` and `docs/images/report.png`."""
    IMAGES.mkdir(exist_ok=True)
    draw_card(summary)
    draw_why(summary)
    shoot(summary.with_suffix(".html"), IMAGES / "report.png", SCREEN, finely=1)


def draw_why(summary: Path) -> None:
    """The verdict, its figures and the chain from the device back to the weights, as `milton trace` verifies it now."""
    decision = read_summary(summary.parent, summary.stem).decision
    models = [report.version for report in decision.candidates]
    colours = {name: number for number, name in enumerate(models)}
    charts = decision_charts(decision, models)[: len(decision.policy.criteria)]
    template = Environment(autoescape=True).from_string((Path(__file__).parent / "why.html.j2").read_text())
    page = template.render(
        # The stylesheet of the campaign's page.
        css=Markup((Path(card.__file__).parents[1] / "report/page.css").read_text()),  # noqa: S704 - a file of ours
        headline=f"{decision.verdict.upper()} {decision.winner}",
        reasons=decision.reasons,
        charts=[{"title": chart.title, "svg": Markup(draw(chart, colours))} for chart in charts],  # noqa: S704 - ours
        links=[_shown(link, decision) for link in _chain(summary.parents[2])],
    )
    with TemporaryDirectory() as folder:
        drawn = Path(folder) / "why.html"
        drawn.write_text(page)
        shoot(drawn, IMAGES / "why.png", WHY, finely=2)


def _chain(state: Path) -> list[dict[str, Any]]:
    command = [Path(sys.executable).with_name("milton"), "trace", "--json"]
    environment = {**os.environ, "MILTON_STATE_DIR": str(state)}
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    links: list[dict[str, Any]] = json.loads(told.stdout)["links"]
    return links


def _shown(link: dict[str, Any], decision: Decision) -> dict[str, Any]:
    """A link without paths of the machine that it was verified on."""
    told = {
        "release": "the files on the device, read again",
        "decision": f"{decision.verdict} under policy {decision.policy.name}, {link['which']}",
        "evidence": "every figure, case and golden that it rests on",
    }
    return {**link, "which": told.get(link["what"], Path(link["which"]).name), "digest": short(link["digest"])}


def draw_card(summary: Path) -> None:
    """The card as a terminal shows it."""
    console = Console(record=True, width=100, file=StringIO(), highlight=False)
    card.render(read_summary(summary.parent, summary.stem).decision, console, installed_tiers())
    (IMAGES / "decision.svg").write_text(FONT_FACE.sub("", console.export_svg(title="milton results")))


def shoot(page: Path, picture: Path, screen: tuple[int, int], *, finely: int) -> None:
    """The first screen of a page, as a browser shows it; `finely` dots a pixel."""
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
                f"--force-device-scale-factor={finely}",
                f"--user-data-dir={profile}",
                f"--window-size={screen[0]},{screen[1]}",
                f"--screenshot={picture}",
                page.absolute().as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
