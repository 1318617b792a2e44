"""The golden questions that a canary takes to its device: which set, and whether it may go there.

What belongs here: from what a person names to the sheet that is sent. What does not: marking answers
(`milton_assets.tiers.reasoning.marking`) and starting the canary (`canaries`).
"""

from __future__ import annotations

from pathlib import Path

from milton_assets.edge.canary.goldens import MAX_GOLDENS_BYTES
from milton_assets.settings import Settings
from milton_assets.tiers.reasoning import load_goldens
from milton_assets.tiers.reasoning.datasets import load_dataset
from milton_assets.tiers.reasoning.marking import marks_of, sheet_of
from milton_assets.vocabulary.errors import BadInput

SHIPPED = "shipped"


def golden_sheet(settings: Settings, named: str) -> bytes:
    """The sheet of the set that ships (`shipped`), or of the folder or JSON Lines file at the path `named`.

    Raises `BadInput` for a set that cannot be read, is too large for a device, or is private in the settings.
    """
    path = None if named == SHIPPED else Path(named)
    if path is not None:
        _refuse_private(settings, path)
    goldens = load_dataset(path) if path is not None and path.is_file() else load_goldens(path)
    sheet = sheet_of(goldens)
    if len(sheet) > MAX_GOLDENS_BYTES:
        raise BadInput(
            f"{named} holds {len(sheet) >> 20} MiB of golden questions",
            expected=f"at most {MAX_GOLDENS_BYTES >> 20} MiB, which a device keeps and reads",
            remedy="give it those that users ask",
        )
    marks_of(sheet)
    return sheet


def _refuse_private(settings: Settings, path: Path) -> None:
    private = [one.path for one in settings.goldens.get("reasoning", ()) if one.private]
    if path.resolve() in {one.resolve() for one in private}:
        raise BadInput(
            f"the golden set {path} is private",
            expected="a set that may be copied to a device",
            remedy="give another set, or take `private` off it in milton.yaml",
        )
