"""The agent's entry: `milton-agent serve`, `status`, `history`, and `attempt` for an attempt's own process.

What belongs here: its arguments, and what a person at the device is shown. What does not: the verbs (`serving`).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from milton_assets.vocabulary.edge_target import target_in
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.keys import check_key
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.terminal import printable


def main(arguments: list[str] | None = None) -> int:
    """Run the verb; 0 for yes, 1 for no, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="milton-agent", description="The device's side of Milton Autobench.")
    parser.add_argument("--target", default="local", metavar="NAME", help="the target's name")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where it lies; in the state folder by default")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("serve", help="speak with a controller over standard input and output")
    verbs.add_parser("status", help="what the target serves")
    verbs.add_parser("check", help="whether everything that it needs is there")
    verbs.add_parser("history", help="every attempt, as JSON lines")
    attempt = verbs.add_parser("attempt", help="carry out an attempt that was begun")
    attempt.add_argument("deployment")
    asked = parser.parse_args(arguments)
    try:
        return _done(asked)
    except MiltonError as error:
        sys.stderr.write(f"milton-agent: {printable(str(error))}\n")
        return 1


def _done(asked: argparse.Namespace) -> int:
    state = StateDir.from_environment(os.environ)
    check_key(asked.target, "target name")
    if asked.verb == "status":  # by itself, since it has to answer on a small device within a blink
        from milton_assets.edge.deployment.report import status

        place = target_in(state, asked.target, asked.folder)
        sys.stdout.write(status(place).model_dump_json(indent=2) + "\n")
        return 0
    from milton_assets.agent.device import device_of, means_of_this_device

    own = ["--target", asked.target, *(["--folder", str(asked.folder)] if asked.folder else [])]
    program = [sys.executable, *_flags(), *_entry(), *own, "attempt"]
    device = device_of(state, asked.target, asked.folder, means_of_this_device(), program)
    if asked.verb == "history":
        sys.stdout.writelines(f"{one.model_dump_json()}\n" for one in device.target.history())
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


def _flags() -> list[str]:
    """This interpreter's own, so that an attempt finds the same modules."""
    return ["-I"] if sys.flags.isolated else []


def _entry() -> list[str]:
    """How this program was started: the installed launcher, or the module."""
    started = Path(sys.argv[0])
    return [str(started.resolve())] if started.name == "milton-agent" else ["-m", "milton_assets.agent"]


if __name__ == "__main__":
    sys.exit(main())
