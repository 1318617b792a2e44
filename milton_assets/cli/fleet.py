"""`milton fleet`: which release is where, and how far the rollouts have come, at a glance.

What belongs here: the verb and what it prints. What does not: asking devices (`milton status`, `milton target list`):
this reads what they told last, which the state folder keeps, and so takes no longer for a thousand.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from milton_assets.cli.common import JsonOption, answer, current_settings
from milton_assets.cli.rollout import show_rollout, told_of
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.terminal import console, printable

if TYPE_CHECKING:
    from rich.console import Console

    from milton_assets.rollout.states import Rollout
    from milton_assets.settings import Settings
    from milton_assets.usecases.fleet_view import LastTold

REDRAWN_S = 2.0
"""How often a live picture is drawn anew."""


def register(app: typer.Typer) -> None:
    """Add `fleet` to the command line."""
    app.command()(fleet)


def fleet(
    live: Annotated[
        bool, typer.Option("--live", help="Draw it anew every two seconds, until Ctrl-C or no rollout is under way.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Which release is where by what each target told last, and every rollout that is not over.

    Example: milton fleet --live
    """
    if live and as_json:
        raise typer.BadParameter("give --live or --json, not both")
    settings = current_settings()
    if live:
        _watch(settings)
        return
    seen = _look(settings)
    told = {
        "targets": [row.model_dump(mode="json", by_alias=True) for row in seen.rows],
        "rollouts": [told_of(one) for one in seen.rollouts],
    }
    answer(told, as_json=as_json, text=seen.show)


class _Seen(NamedTuple):
    """The fleet at a moment: a row a target, and the rollouts that are not over."""

    rows: list[LastTold]
    rollouts: list[Rollout]

    def show(self, onto: Console) -> None:
        _show_releases(self.rows, onto)
        for one in self.rollouts:
            show_rollout(one, onto)


def _look(settings: Settings) -> _Seen:
    from milton_assets.rollout.states import Stage
    from milton_assets.usecases.compose import targets_of
    from milton_assets.usecases.fleet_view import last_told
    from milton_assets.usecases.rollouts import names_of, rollout_of

    rows = list(last_told(targets_of(settings)))
    found = [rollout_of(settings.state, name) for name in names_of(settings.state)]
    return _Seen(rows, [one for one in found if one.stage not in {Stage.DONE, Stage.ABORTED}])


def _watch(settings: Settings) -> None:
    """Draw the fleet in the same place until no rollout is under way; on what is no terminal, as it is at the end."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    drawn = console()
    with contextlib.suppress(KeyboardInterrupt), Live(console=drawn, auto_refresh=False) as picture:
        while True:
            seen = _look(settings)
            # On a console of its own, since everything printed on `drawn` meanwhile would stand above the picture.
            page = io.StringIO()
            seen.show(Console(file=page, width=drawn.width, highlight=False))
            picture.update(Text(page.getvalue()), refresh=True)
            if not seen.rollouts:
                return
            time.sleep(REDRAWN_S)


def _show_releases(rows: list[LastTold], onto: Console) -> None:
    if not rows:
        onto.print("there are no targets yet; `milton target add` makes a device one")
        return
    by_release: dict[str | None, list[LastTold]] = defaultdict(list)
    for row in rows:
        by_release[row.serves].append(row)
    for release, there in sorted(by_release.items(), key=lambda pair: -len(pair[1])):
        what = f"{there[0].model_version}, release {short(release)}" if release else "nothing that was told of"
        names = ", ".join(row.target for row in there[:6]) + (", …" if len(there) > 6 else "")
        text = f"{len(there):>5} of {len(rows)} serve {what}: {names}"
        onto.print(printable(text), markup=False, soft_wrap=True)
    for row in rows:
        if row.reason:
            when = f"{row.heard_at:%Y-%m-%d %H:%M} UTC " if row.heard_at else ""
            text = f"  {row.target:<16} {when}{row.last}: {row.reason}"
            onto.print(printable(text), markup=False, soft_wrap=True)
