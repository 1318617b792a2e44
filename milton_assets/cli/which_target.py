"""Which edge target a verb means, and who acts on it.

What belongs here: the options by which targets and people are named, and finding them. What does not: the verbs
(`deploy`, `deployed`, `canary`, `device_policy` …), and which targets there are (`milton_assets.fleet.targets`).
"""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from milton_assets.cli.common import current_settings, text_given
from milton_assets.vocabulary.errors import BadInput

if TYPE_CHECKING:
    from milton_assets.fleet.target import Target
    from milton_assets.fleet.targets import Targets

TargetOption = Annotated[
    str | None, typer.Option("--target", metavar="NAME", help="A named target; `local` when nothing is given.")
]
TargetPathOption = Annotated[
    Path | None, typer.Option("--target-path", metavar="DIR", help="Any folder: empty, absent, or a target already.")
]
ActorOption = Annotated[str | None, typer.Option("--actor", help="Who does this, for the history; you by default.")]
WaitOption = Annotated[float, typer.Option("--wait", metavar="SECONDS", min=0, help="Wait for another deployer.")]


def place_of(name: str | None, path: Path | None) -> tuple[Targets, Target]:
    """The targets there are, and the one that `--target` and `--target-path` mean."""
    from milton_assets.usecases.compose import targets_of

    if name is not None and path is not None:
        raise typer.BadParameter("give --target or --target-path, not both")
    targets = targets_of(current_settings())
    return targets, targets.resolve(name=name, path=path)


def target_of(name: str | None, path: Path | None) -> Target:
    """The target that `--target` and `--target-path` mean."""
    return place_of(name, path)[1]


def those_meant(name: str | None, path: Path | None) -> tuple[Target, ...]:
    """The target that is meant; every one there is where none is."""
    targets, place = place_of(name, path)
    return targets.all() if name is None and path is None else (place,)


def acting(actor: str | None) -> str:
    """Who does this, for the history: whoever was given, else this process's user. Raises `BadInput` without a name."""
    if actor:
        return text_given(actor)
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise BadInput(
            "this process has no user name", expected="a name for the history", remedy="pass --actor NAME"
        ) from None
