"""`milton fleet`: which release is where, and how far the rollouts have come, at a glance.

What belongs here: the verb and what it prints. What does not: asking devices (`milton status`, `milton target list`):
this reads what they told last, which the state folder keeps, and so takes no longer for a thousand.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import typer

from milton_assets.cli.common import JsonOption, answer, current_settings
from milton_assets.cli.rollout import show_rollout, told_of
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from milton_assets.usecases.fleet_view import LastTold


def register(app: typer.Typer) -> None:
    """Add `fleet` to the command line."""
    app.command()(fleet)


def fleet(as_json: JsonOption = False) -> None:
    """Which release is where by what each target told last, and every rollout that is not over.

    Example: milton fleet
    """
    from milton_assets.rollout.states import Stage
    from milton_assets.usecases.compose import targets_of
    from milton_assets.usecases.fleet_view import last_told
    from milton_assets.usecases.rollouts import names_of, rollout_of

    settings = current_settings()
    rows = list(last_told(targets_of(settings)))
    found = [rollout_of(settings.state, name) for name in names_of(settings.state)]
    live = [one for one in found if one.stage not in {Stage.DONE, Stage.ABORTED}]

    def show(console: Console) -> None:
        _show_releases(rows, console)
        for one in live:
            show_rollout(one, console)

    answer(
        {
            "targets": [row.model_dump(mode="json", by_alias=True) for row in rows],
            "rollouts": [told_of(one) for one in live],
        },
        as_json=as_json,
        text=show,
    )


def _show_releases(rows: list[LastTold], console: Console) -> None:
    if not rows:
        console.print("there are no targets yet; `milton target add` makes a device one")
        return
    by_release: dict[str | None, list[LastTold]] = defaultdict(list)
    for row in rows:
        by_release[row.serves].append(row)
    for release, there in sorted(by_release.items(), key=lambda pair: -len(pair[1])):
        what = f"{there[0].model_version}, release {short(release)}" if release else "nothing that was told of"
        names = ", ".join(row.target for row in there[:6]) + (", …" if len(there) > 6 else "")
        text = f"{len(there):>5} of {len(rows)} serve {what}: {names}"
        console.print(printable(text), markup=False, soft_wrap=True)
    for row in rows:
        if row.reason:
            when = f"{row.heard_at:%Y-%m-%d %H:%M} UTC " if row.heard_at else ""
            text = f"  {row.target:<16} {when}{row.last}: {row.reason}"
            console.print(printable(text), markup=False, soft_wrap=True)
