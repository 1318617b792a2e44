"""Serving a target from settings: which folder, with which model server, at which address.

What belongs here: putting `edge.serving` together with the launchers, for whichever door asks. What does not: serving
itself, and what is not needed for it: this runs on devices, where `usecases.compose` would load far too much.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from milton_assets.edge.serving.service import Service
from milton_assets.edge.serving.supervisor import Mode
from milton_assets.fleet.local import LocalTarget
from milton_assets.fleet.target import RollbackRequest
from milton_assets.settings import Settings
from milton_assets.tiers.reasoning.marking import marks_of
from milton_assets.usecases.targets import open_targets
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.terminal import printable
from resources.edge_server import EdgeServer
from resources.servers import launching


def served_target(settings: Settings, name: str | None, path: Path | None) -> LocalTarget:
    """The target that is meant. Raises `BadInput` for one that is on another machine."""
    named = {key: target.at for key, target in settings.targets.items()}
    found = open_targets(settings.state, named, server=lambda: edge_server(settings)).resolve(name=name, path=path)
    if not isinstance(found, LocalTarget):
        raise BadInput(
            f"the target {found.name} is at {found.url}, which is not on this machine",
            expected="a target that lies here",
            remedy=f"a device serves itself: run `milton-agent --target {found.name} gateway` there",
        )
    return found


def edge_server(settings: Settings) -> EdgeServer:
    """What releases are served with, as `usecases.compose.edge_server_of` has it."""
    return launching.edge_server(settings.edge_server, settings.edge_program)


def service_of(
    settings: Settings,
    target: LocalTarget,
    *,
    say: Callable[[str], None],
    host: str | None = None,
    port: int | None = None,
    mode: str | None = None,
    slots: int | None = None,
    hold_s: float | None = None,
    drain_s: float | None = None,
    watched: bool = True,
) -> Service:
    """How `target` is served as the settings say; what is given goes before them."""
    given = settings.serving
    bare = Service(target.place.path, edge_server(settings), marks_of)
    chosen = Mode(mode or given.mode)

    def go_back(reason: str) -> str:
        # Where memory holds one model there is none for a load test beside the one that serves.
        request = RollbackRequest(
            actor=f"watch: {reason}"[:500], wait_s=60.0, load_test=chosen is Mode.TWO, health_rounds=0
        )
        done = target.rollback(request)
        return f"{done.model_version}, release {done.release or 'unknown'}"

    return replace(
        bare,
        host=host or given.host,
        port=given.port if port is None else port,
        mode=chosen,
        watched=watched,
        go_back=go_back,
        slots=slots,
        limits=bare.limits if hold_s is None else replace(bare.limits, hold_s=hold_s),
        drain_s=bare.drain_s if drain_s is None else drain_s,
        say=say,
    )


def say_on_stderr(sentence: str) -> None:
    """What happens while a target is served, with the time, for whoever reads standard error."""
    stamp = datetime.now().astimezone().isoformat(timespec="seconds")
    sys.stderr.write(f"{stamp} {printable(sentence)}\n")
    sys.stderr.flush()
