"""Draw the README's picture of a decision from a run's summary.

    python docs/make_pictures.py ~/.local/state/milton/benchmarks/runs/benchmark_20260111_142500.json

What belongs here: pictures for the documentation. What does not: those of the product (`milton results --pictures`).
"""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path

from rich.console import Console

from milton_assets.selection import card
from milton_assets.selection.summary import read_summary


def main(summary: Path) -> None:
    """Write `docs/images/decision.svg`."""
    console = Console(record=True, width=100, file=StringIO(), highlight=False)
    card.render(read_summary(summary.parent, summary.stem).decision, console)
    out = Path(__file__).parent / "images" / "decision.svg"
    out.parent.mkdir(exist_ok=True)
    out.write_text(console.export_svg(title="milton results"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
