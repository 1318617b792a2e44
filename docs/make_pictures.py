"""Draw the README's picture of a decision from a run's summary.

    python docs/make_pictures.py ~/.local/state/milton/benchmarks/runs/benchmark_20260111_142500.json

What belongs here: pictures for the documentation. What does not: those of the product (`milton results --pictures`).
"""

from __future__ import annotations

import re
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console

from milton_assets.selection import card
from milton_assets.selection.summary import read_summary
from milton_assets.tiers.discovery import installed_tiers

FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""The picture is drawn with the reader's own monospace font, and fetches none."""


def main(summary: Path) -> None:
    """Write `docs/images/decision.svg`."""
    console = Console(record=True, width=100, file=StringIO(), highlight=False)
    card.render(read_summary(summary.parent, summary.stem).decision, console, installed_tiers())
    out = Path(__file__).parent / "images" / "decision.svg"
    out.parent.mkdir(exist_ok=True)
    svg = console.export_svg(title="milton results")
    out.write_text(FONT_FACE.sub("", svg))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
