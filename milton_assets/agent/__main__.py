"""The agent's entry: `milton-agent serve`, `gateway`, `unit`, `status`, `history`, `recover`, and `attempt` for an
attempt's own process.

What belongs here: its arguments, and what a person at the device is shown. What does not: the verbs (`serving`).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from milton_assets.agent.status_memo import recalled, remember, seen
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.os_errors import explained
from milton_assets.vocabulary.state import StateDir


def main(arguments: list[str] | None = None) -> int:
    """Run the verb; 0 for yes, 1 for no, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="milton-agent", description="The device's side of Milton Autobench.")
    parser.add_argument("--target", default="local", metavar="NAME", help="the target's name")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where it lies; in the state folder by default")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("serve", help="speak with a controller over standard input and output")
    gateway = verbs.add_parser("gateway", help="serve users what is current, at one address, until Ctrl-C")
    gateway.add_argument("--host", help="where to listen; the setting serving.host, else 127.0.0.1")
    gateway.add_argument("--port", type=int, help="the port; the setting serving.port, else 8080")
    unit = verbs.add_parser("unit", help="write a systemd user unit that serves users after each start of the device")
    unit.add_argument("--host", help="where it listens; as for `gateway`")
    unit.add_argument("--port", type=int, help="the port; as for `gateway`")
    unit.add_argument("--relaxed", action="store_true", help="for a GPU, or a kernel without user namespaces")
    verbs.add_parser("status", help="what the target serves")
    verbs.add_parser("recover", help="settle what a power cut or a crash left half done")
    verbs.add_parser("check", help="whether everything that it needs is there")
    verbs.add_parser("history", help="every attempt, as JSON lines")
    attempt = verbs.add_parser("attempt", help="carry out an attempt that was begun")
    attempt.add_argument("deployment")
    asked = parser.parse_args(arguments)
    try:
        return _done(asked)
    except MiltonError as error:
        from milton_assets.vocabulary.terminal import printable

        sys.stderr.write(f"milton-agent: {printable(str(error))}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"milton-agent: {explained(error, '`milton-agent`')}\n")
        return 1


def _done(asked: argparse.Namespace) -> int:
    state = StateDir.from_environment(os.environ)
    if asked.verb == "status":
        sys.stdout.write(_status(state, asked.target, asked.folder) + "\n")
        return 0
    from milton_assets.vocabulary.keys import check_key

    check_key(asked.target, "target name")
    from milton_assets.agent.device import device_of, means_of_this_device

    own = ["--target", asked.target, *(["--folder", str(asked.folder)] if asked.folder else [])]
    program = [sys.executable, *_flags(), *_entry(), *own, "attempt"]
    device = device_of(state, asked.target, asked.folder, means_of_this_device(), program)
    if asked.verb == "history":
        sys.stdout.writelines(f"{one.model_dump_json()}\n" for one in device.target.history())
    elif asked.verb == "gateway":
        from milton_assets.edge.serving.service import serve
        from milton_assets.settings import load_settings
        from milton_assets.usecases.serving import say_on_stderr, service_of

        serve(service_of(load_settings(), device.target, say=say_on_stderr, host=asked.host, port=asked.port))
    elif asked.verb == "unit":
        sys.stdout.write(_unit(state, device.target.place.path, asked))
    elif asked.verb == "recover":
        from milton_assets.fleet.target import RecoverRequest

        sys.stdout.writelines(f"{said}\n" for said in device.target.recover(RecoverRequest(actor="agent", wait_s=5)))
    elif asked.verb == "attempt":
        device.attempts.run(asked.deployment, device.incoming().folder)
    elif asked.verb == "check":
        from milton_assets.agent.serving import release_of_agent

        device.target.inventory()
        sys.stdout.write(f"milton-agent {release_of_agent()}\n")
    else:
        from milton_assets.agent.serving import Session
        from milton_assets.fleet.wire import Wire

        # Frames go out over a descriptor of their own: whatever else is printed must not come between them.
        writer = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        Session(Wire(sys.stdin.fileno(), writer), device).run()
    return 0


def _unit(state: StateDir, place: Path, asked: argparse.Namespace) -> str:
    """Write the unit; where it is, and what to say to systemd."""
    from milton_assets.agent.unit import Served, write_unit
    from milton_assets.settings import load_settings

    given = {"--host": asked.host, "--port": asked.port}
    served = Served(
        asked.target,
        place,
        state.root,
        load_settings().cache_dir,
        [part for name, value in given.items() if value is not None for part in (name, str(value))],
        asked.folder,
        asked.relaxed,
    )
    path = write_unit(served, Path.home())
    return (
        f"wrote {path}\n"
        f"start it: systemctl --user daemon-reload && systemctl --user enable --now {served.unit}\n"
        "keep it after you log out, once: sudo loginctl enable-linger $USER\n"
    )


def _status(state: StateDir, name: str, folder: Path | None) -> str:
    """The target's status as JSON. What is imported here takes ten times as long as what was said before (ADR 210)."""
    memo, asked = state.agent / name / "status.json", f"{state.root} {name} {folder or ''}"
    if Path(name).name == name and (said := recalled(memo, asked)) is not None:
        return said
    # Else pydantic opens the list of every package that is installed to look for plugins of its, and we use none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from milton_assets.edge.deployment.journal import JOURNAL_FILE
    from milton_assets.edge.deployment.layout import Link
    from milton_assets.edge.deployment.lock import LOCK_FILE
    from milton_assets.edge.deployment.report import status
    from milton_assets.vocabulary.edge_target import target_in

    place = target_in(state, name, folder)
    files = [place.path / part for part in (JOURNAL_FILE, *Link)]
    before = seen(files if place.history_file is None else [*files, place.history_file])
    said = status(place).model_dump_json(indent=2)
    remember(memo, asked, said, before, place.path / LOCK_FILE)
    return said


def _flags() -> list[str]:
    """This interpreter's own, so that an attempt finds the same modules."""
    return ["-I"] if sys.flags.isolated else []


def _entry() -> list[str]:
    """How this program was started: the installed launcher, or the module."""
    started = Path(sys.argv[0])
    return [str(started.resolve())] if started.name == "milton-agent" else ["-m", "milton_assets.agent"]


if __name__ == "__main__":
    sys.exit(main())
