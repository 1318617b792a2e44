"""`milton bundle scrub` and `repair`: what of a bundle is damaged, down to the tensor, and mending just that.

What belongs here: the verbs' arguments and what they print. What does not: finding and mending damage, which is
`milton_assets.edge.bundle.scrub`'s and `repair`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from milton_assets.cli.bundle_common import BundleArgument, find_bundle
from milton_assets.cli.common import JsonOption, answer, progress_on_stderr, say_no

if TYPE_CHECKING:
    from rich.console import Console

    from milton_assets.edge.bundle import Damage


def scrub(bundle: BundleArgument = None, as_json: JsonOption = False) -> None:
    """Read every byte of a bundle and name what is damaged, down to the tensor. Exits 1 when something is.

    Example: milton bundle scrub
    """
    from milton_assets.edge.bundle import scrub_bundle

    report = scrub_bundle(find_bundle(bundle), on_progress=progress_on_stderr())
    answer(report.to_json(), as_json=as_json, text=lambda console: _show_damages(report.damages, console))
    if not report.ok:
        raise say_no("next: milton bundle repair --from ANOTHER_BUNDLE")


def repair(
    source: Annotated[str, typer.Option("--from", metavar="BUNDLE", help="A bundle that has what is damaged.")],
    bundle: BundleArgument = None,
    as_json: JsonOption = False,
) -> None:
    """Mend a bundle, fetching only the damaged tensors from another one.

    Example: milton bundle repair --from /mnt/store/milton_edge_bundle_v1.20260111.1425_20260111_150000
    """
    from milton_assets.edge.bundle import repair_bundle

    report = repair_bundle(find_bundle(bundle), find_bundle(source), on_progress=progress_on_stderr())
    told = {"repaired": [str(damage) for damage in report.repaired], "fetched_bytes": report.fetched_bytes}

    def show(console: Console) -> None:
        _show_damages(report.repaired, console)
        console.print(f"mended with {report.fetched_bytes / 1e6:.3f} MB from the other bundle")

    answer(told, as_json=as_json, text=show)


def _show_damages(damages: Iterable[Damage], console: Console) -> None:
    sentences = [str(damage) for damage in damages]
    for sentence in sentences or ["nothing is damaged"]:
        console.print(sentence, markup=False, soft_wrap=True)
