"""A device's agent in a process of its own, whose probe finds every model well, and a link to it without a network.

What belongs here: the device's side (`main`) and `PipeLink`. What does not: assertions, and a real sshd
(`tests/support/own_sshd.py`).
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from milton_assets.fleet.remote_shell import AGENT
from milton_assets.fleet.ssh import SshTarget
from milton_assets.vocabulary.state import StateDir
from tests.support.stub_llama_server import program

ROOT = Path(__file__).parents[2]
AILING = "MILTON_TEST_AILING"
"""In the agent's environment: its probe finds every model ailing."""
LYING = "MILTON_TEST_LYING"
"""In the agent's environment: what it is asked to verify it finds whole, whatever lies there."""


def agent_line(name: str, home: Path, *, env: dict[str, str] | None = None) -> str:
    """The shell line that starts the agent of a device whose state lies in `home`."""
    variables = {"MILTON_STATE_DIR": str(home / "state"), "PYTHONPATH": str(ROOT), **(env or {})}
    told = " ".join(f"{key}={shlex.quote(value)}" for key, value in variables.items())
    return f"env {told} {shlex.quote(sys.executable)} -m tests.support.agents --target {name} serve"


def put_agent(home: Path, *, env: dict[str, str] | None = None) -> Path:
    """Put an agent where `milton target add` would, in the device's HOME; its state folder."""
    state = home / "device" / "state"
    program = home / AGENT
    program.parent.mkdir(parents=True)
    variables = {"MILTON_STATE_DIR": str(state), "PYTHONPATH": str(ROOT), **(env or {})}
    told = " ".join(f"{key}={shlex.quote(value)}" for key, value in variables.items())
    program.write_text(f'#!/bin/sh\n{told} exec {shlex.quote(sys.executable)} -m tests.support.agents "$@"\n')
    program.chmod(0o755)
    return state


def measuring_agent_line(name: str, home: Path, **env: str) -> str:
    """The shell line that starts the agent that is installed on devices, with a `llama-server` of its own."""
    return f"{_measuring(home, env)} --target {name} serve"


def put_measuring_agent(home: Path, **env: str) -> None:
    """Put that agent where `milton target add` puts it, in place of one that is there."""
    launcher = home / AGENT
    launcher.parent.mkdir(parents=True, exist_ok=True)
    launcher.write_text(f'#!/bin/sh\nexec {_measuring(home, {"MILTON_WATCH_MACHINE": "0", **env})} "$@"\n')
    launcher.chmod(0o755)


def _measuring(home: Path, env: dict[str, str]) -> str:
    variables = {
        "MILTON_STATE_DIR": str(home / "state"),
        "PYTHONPATH": str(ROOT),
        "MILTON_SERVER_BINARY": str(program(home / "bin")),
        **env,
    }
    told = " ".join(f"{key}={shlex.quote(value)}" for key, value in variables.items() if value)
    return f"env {told} {shlex.quote(sys.executable)} -m milton_assets.agent"


@dataclass(frozen=True)
class PipeLink:
    """A link that starts the line on this machine; `prefix` is put before it, e.g. a proxy that cuts."""

    prefix: Sequence[str] = field(default_factory=tuple)

    def command(self, remote: str, *, fresh: bool = False) -> Sequence[str]:
        """See `Link`."""
        return [*self.prefix, "sh", "-c", f"exec {remote}"]


def device(tmp: Path, name: str = "kitchen", *, env: dict[str, str] | None = None, **settings: object) -> SshTarget:
    """A target on a device in `tmp/device`, spoken to from `tmp/state` over pipes."""
    given: dict[str, object] = {"confirm_within_s": 20.0, "patience_s": 60.0, "link": PipeLink(), **settings}
    line = agent_line(name, tmp / "device", env=env)
    return SshTarget(name=name, url="ssh://test", state=StateDir(tmp / "state"), command=line, **given)  # type: ignore[arg-type]


def main() -> None:
    """The agent, with a probe of its own."""
    import milton_assets.agent.__main__ as agent
    import milton_assets.agent.device as composing
    from milton_assets.fleet.local import LocalMeans
    from resources.inventory import inventory_of
    from tests.support.crashing import ailing, healthy

    probe = ailing if os.environ.get(AILING) else healthy
    composing.means_of_this_device = lambda: LocalMeans(lambda: probe, inventory_of)
    if os.environ.get(LYING):
        from milton_assets.agent.serving import VERBS

        honest = VERBS["verify"]
        VERBS["verify"] = lambda session, frame: honest(session, frame).model_copy(update={"problems": ()})
    agent._entry = lambda: ["-m", "tests.support.agents"]
    sys.exit(agent.main())


if __name__ == "__main__":
    main()
