"""Devices behind real sshds, each in a network namespace of its own, on a network that no other process sees.

    with own_fleet(folder, ["attic", "bath"]) as fleet: fleet.unplug("bath")

What belongs here: the namespaces, the cables between them, and what a person's `ssh` is to know. What does not: the
agents (`agents`), and assertions.

Where no namespace can be made (that takes root, and a kernel that lets it), the same sshds listen on loopback ports; a
device is then unplugged by ending its sshd. `OwnFleet.is_networked` says which it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.own_sshd import OwnSshd, free_port

_NET = "10.77.0"
_PORT = 2222


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass
class OwnFleet:
    """Running devices by name. `client` is a folder to put first on PATH: its `ssh` reaches them all."""

    sshds: dict[str, OwnSshd]
    client: Path
    is_networked: bool
    _cables: dict[str, tuple[str, str]] = field(default_factory=dict)

    def url(self, name: str) -> str:
        """The device's URL."""
        sshd = self.sshds[name]
        return f"ssh://{sshd.user}@{sshd.address}:{sshd.port}"

    def unplug(self, name: str) -> None:
        """Nobody reaches the device any more; it runs on."""
        if self.is_networked:
            hub, cable = self._cables[name]
            _ip("-n", hub, "link", "set", cable, "down")
        else:
            self.sshds[name].stop()

    def plug(self, name: str) -> None:
        """The device is there again."""
        if self.is_networked:
            hub, cable = self._cables[name]
            _ip("-n", hub, "link", "set", cable, "up")
        else:
            self.sshds[name].start()


@contextmanager
def own_fleet(folder: Path, names: Sequence[str]) -> Iterator[OwnFleet]:
    """Devices of these names below `folder`, that let in one key, and the `ssh` of whoever has it."""
    with ExitStack() as stack:
        hub = _namespace(stack, "hub")
        sshds, cables = {}, {}
        for number, name in enumerate(names, 1):
            within: tuple[str, ...] = ()
            address, port = "127.0.0.1", free_port()
            if hub is not None:
                place, cable = _namespace(stack, str(number)), f"cable{number}"
                assert place is not None
                address, port, within = f"{_NET}.{number}", _PORT, ("ip", "netns", "exec", place)
                _connect(hub, cable, place, address)
                cables[name] = (hub, cable)
            sshd = OwnSshd(folder / name, port, address=address, within=within)
            if sshds:  # one key opens all
                sshd.root.mkdir(parents=True)
                for key in ("id", "id.pub"):
                    shutil.copy2(next(iter(sshds.values())).root / key, sshd.root / key)
            sshd.start()
            stack.callback(sshd.stop)
            sshds[name] = sshd
        first = next(iter(sshds.values()))
        client = first.client(folder / "client", within=("ip", "netns", "exec", hub) if hub else ())
        for sshd in sshds.values():
            sshd.know(client)
        yield OwnFleet(sshds, client, hub is not None, cables)


def _namespace(stack: ExitStack, what: str) -> str | None:
    """A namespace that is removed with the stack; None where this machine lets us make none."""
    name = f"milton-{os.getpid()}-{what}"
    if os.getuid() or not shutil.which("ip"):
        return None
    if subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode:
        return None
    stack.callback(_ip, "netns", "del", name)
    if what == "hub":
        _ip("-n", name, "link", "add", "hub", "type", "bridge")
        _ip("-n", name, "addr", "add", f"{_NET}.254/24", "dev", "hub")
        _ip("-n", name, "link", "set", "hub", "up")
    return name


def _connect(hub: str, cable: str, place: str, address: str) -> None:
    _ip("-n", hub, "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", place)
    _ip("-n", hub, "link", "set", cable, "master", "hub", "up")
    _ip("-n", place, "addr", "add", f"{address}/24", "dev", "eth0")
    for link in ("lo", "eth0"):
        _ip("-n", place, "link", "set", link, "up")
