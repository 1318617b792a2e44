"""The systemd user unit by which a device serves users after each start, hardened as the others are.

What belongs here: the unit's text, and writing it. What does not: what may not be done (`systemd/hardening.conf`, which
`systemd/install.sh` puts into the units of a checkout too), and serving (`edge.serving`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from milton_assets.fleet.remote_shell import AGENT
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import write_atomic

UNITS = ".config/systemd/user"
"""Below the home folder."""
_PARTS = Path(__file__).with_name("systemd")
_PLAIN = re.compile(r"/[A-Za-z0-9/._+@:-]*")
_UNIT = """# Written by `milton-agent unit`; another address or folder: write it anew.
[Unit]
Description=Milton Autobench: serve what is current on the edge target {name}

[Service]
Environment=MILTON_STATE_DIR={state} MILTON_CACHE_DIR={cache}
EnvironmentFile=-%E/milton/milton.env
# What a power cut left half done is settled first; where somebody deploys right now, that is theirs.
ExecStartPre=-{agent} recover
ExecStart={agent} gateway{options}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=5
# What is being answered may end; the model servers go with the gateway.
KillSignal=SIGTERM
KillMode=mixed
TimeoutStopSec=60
# A model server that runs out of memory is noticed, recorded and started again by the gateway: it must live for that.
OOMPolicy=continue
TasksMax=512

{hardening}
[Install]
WantedBy=default.target
"""


@dataclass(frozen=True)
class Served:
    """The target `name` in the folder `place`, of the state folder `state`, with `options` for the gateway; `folder`
    where it is named for the agent. `relaxed` gives back what a GPU or a kernel without user namespaces needs.
    """

    name: str
    place: Path
    state: Path
    cache: Path
    options: Sequence[str] = ()
    folder: Path | None = None
    relaxed: bool = False

    @property
    def unit(self) -> str:
        """What systemd calls it."""
        return f"milton-gateway-{self.name}.service"


def write_unit(served: Served, home: Path) -> Path:
    """Write the unit below the folder `home`; where it is. Raises `BadInput` for a path that a unit reads otherwise."""
    for path in (served.place, served.state, served.cache):
        if not _PLAIN.fullmatch(str(path)):
            raise BadInput(
                f"{path} holds characters that unit files give a meaning to",
                expected="an absolute path of letters, digits and /._+@:-",
                remedy="move it elsewhere",
            )
    for path in (served.place, served.state, served.cache):
        path.mkdir(parents=True, exist_ok=True)  # one that is not there would keep the service from starting
    path = home / UNITS / served.unit
    write_atomic(path, text_of(served))
    return path


def text_of(served: Served) -> str:
    """The unit."""
    where = [] if served.folder is None else ["--folder", str(served.folder)]
    paths = " ".join(dict.fromkeys(map(str, (served.state, served.cache, served.place))))
    hardening = (_PARTS / "hardening.conf").read_text().replace("@STATE@ @CACHE@", paths)
    if served.relaxed:
        hardening += (_PARTS / "relaxed.conf").read_text().split("[Service]\n")[1]
    return _UNIT.format(
        name=served.name,
        state=served.state,
        cache=served.cache,
        agent=f"%h/{AGENT} {shlex.join(['--target', served.name, *where])}",
        options="".join(f" {part}" for part in served.options),
        hardening=hardening,
    )
