"""A device with an address, a HOME and a user of its own: an sshd in namespaces of the test, linked by cables.

    with own_network(folder) as network:           # raises `NoNamespaces` where none can be made
        network.device.run(["id", "-un"])          # on the device
        network.cable.cut(), network.cable.mend()  # `ip link set … down`, `up`

What belongs here: what lies in the namespaces, the cables and the sshds, and taking them apart. What does not:
assertions.

The controller has a network namespace too, so nothing of this machine's own network changes: its one cable leads to the
jump host or to the device. The device's mounts are its own: /etc/passwd names one user, `pi`, whose HOME is a disk of a
few megabytes in memory; Python and the packages of this environment lie beside it, and `pi` may not write there. With
systemd that is the device's process 1 (`own_systemd`), its sshd a service, a login one of PAM's, and `pi` may `sudo`.
All of it goes with the processes that hold the namespaces.
"""

from __future__ import annotations

import os
import shlex
import shutil
import site
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.namespaces import Machine, NoNamespaces, held, program
from tests.support.own_systemd import ENTER, waiting_machine

ROOT = Path(__file__).parents[2]
USER, UID = "pi", 4321
HOME = "/home/pi"
PYTHON = (
    "env PYTHONPATH=/home/source:/home/packages LD_LIBRARY_PATH=/home/python/lib "
    f"/home/python/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
)
"""The words that start Python there, with the project and its packages."""


@dataclass(frozen=True)
class Cable:
    """A virtual cable; `ends` are the machines and the names of their interfaces."""

    ends: tuple[tuple[Machine, str], tuple[Machine, str]]

    def cut(self) -> None:
        """Nothing goes through any more, and nobody is told."""
        self._set("down")

    def mend(self) -> None:
        """It carries again."""
        self._set("up")

    def slow(self, rate: str) -> None:
        """Towards the second end no more than `rate` (`10mbit`) goes through."""
        machine, name = self.ends[0]
        machine.run(
            ["tc", "qdisc", "replace", "dev", name, "root", "tbf", *f"rate {rate} burst 64kb latency 200ms".split()]
        )

    def _set(self, how: str) -> None:
        machine, name = self.ends[1]
        machine.run(["ip", "link", "set", name, how])


@dataclass(frozen=True)
class OwnNetwork:
    """A controller, a device, the last cable before it, and a jump host where there is one."""

    controller: Machine
    device: Machine
    cable: Cable
    jump: Machine | None
    folder: Path

    def client(self) -> Path:
        """A folder to put first on PATH: its `ssh` runs where the controller's network is, with a config of its own."""
        config = self.folder / "config"
        via = "  ProxyJump jump\n" if self.jump else ""
        config.write_text(
            f"Host kitchen kitchen.local\n  HostName {self.device.address}\n{via}"
            f"Host jump\n  HostName {self.jump.address if self.jump else '-'}\n"
            f"Host *\n  User {USER}\n  IdentityFile {self.folder / 'id'}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.folder / 'known_hosts'}\n  BatchMode yes\n  LogLevel ERROR\n"
        )
        kind, key, *_ = (self.folder / "host.pub").read_text().split()
        known = [machine.address for machine in (self.device, self.jump) if machine]
        (self.folder / "known_hosts").write_text("".join(f"{address} {kind} {key}\n" for address in known))
        real = shutil.which("ssh")
        assert real, "there is no ssh on this machine; install it: apt-get install openssh-client"
        bin_folder = self.folder / "bin"
        bin_folder.mkdir(exist_ok=True)
        enter = shlex.join(["nsenter", "-t", str(self.controller.pid), "-n"])
        (bin_folder / "ssh").write_text(f'#!/bin/sh\nexec {enter} {real} -F {shlex.quote(str(config))} "$@"\n')
        (bin_folder / "ssh").chmod(0o755)
        return bin_folder

    def agent_line(self, target: str) -> str:
        """The shell line that starts the agent there."""
        return f"env MILTON_STATE_DIR={HOME}/state {PYTHON} -m tests.support.agents --target {target} serve"


@contextmanager
def own_network(
    folder: Path, *, with_jump_host: bool = False, with_systemd: bool = False, disk: str = "256m"
) -> Iterator[OwnNetwork]:
    """Make it, its keys in `folder`, the device's disk of that size. Raises `NoNamespaces`."""
    if missing := [name for name in ("unshare", "nsenter", "ip", "tc", "sshd") if not program(name)]:
        raise NoNamespaces(f"there is no {', '.join(missing)} here")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("host", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with ExitStack() as life:
        controller = Machine(life.enter_context(held()))
        boot = None
        if with_systemd:
            first, boot = life.enter_context(waiting_machine())
            device = Machine(first, "10.213.2.2", ENTER)
        else:
            device = Machine(life.enter_context(held()), "10.213.2.2")
        jump = Machine(life.enter_context(held()), "10.213.1.2") if with_jump_host else None
        near = jump or controller
        if jump:
            _cable(controller, jump, "10.213.1")
        cable = _cable(near, device, "10.213.2")
        for machine, size in ((device, disk), (jump, "8m")):
            if machine:
                _furnish(machine, folder, size)
                if boot and machine is device:
                    boot(folder, _sshd_line(machine, folder, with_pam=True))
                else:
                    life.enter_context(_sshd(machine, folder))
        yield OwnNetwork(controller, device, cable, jump, folder)


def _cable(one: Machine, other: Machine, net: str) -> Cable:
    names = ("near", "far")
    one.run(["ip", "link", "add", names[0], "type", "veth", "peer", "name", names[1], "netns", str(other.pid)])
    for number, (machine, name) in enumerate(((one, names[0]), (other, names[1])), 1):
        machine.run(["ip", "address", "add", f"{net}.{number}/24", "dev", name])
        machine.run(["ip", "link", "set", name, "up"])
    return Cable(((one, names[0]), (other, names[1])))


def _furnish(machine: Machine, folder: Path, disk: str) -> None:
    """One user with a HOME on a disk of its own, and Python beside it."""
    users = [
        "root:x:0:0:root:/root:/bin/sh",
        f"{USER}:x:{UID}:{UID}:a device's user:{HOME}:/bin/sh",
        "sshd:x:101:65534::/run/sshd:/usr/sbin/nologin",
        "messagebus:x:102:102::/:/usr/sbin/nologin",
        "nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin",
    ]
    (folder / "passwd").write_text("".join(f"{user}\n" for user in users))
    (folder / "sudoers").write_text(f"root ALL=(ALL) ALL\n{USER} ALL=(ALL) NOPASSWD: ALL\n")
    (folder / "shadow").write_text(f"root:*:1::::::\n{USER}:*:1::::::\nsshd:!:1::::::\n")
    packages = next(path for path in (*site.getsitepackages(), str(ROOT)) if Path(path).is_dir())
    mounts = {"/home/python": sys.base_prefix, "/home/packages": packages, "/home/source": str(ROOT)}
    script = [
        f"mount --bind {folder}/passwd /etc/passwd",
        f"mount --bind {folder}/shadow /etc/shadow",
        f"if [ -e /etc/sudoers ]; then chmod 440 {folder}/sudoers; mount --bind {folder}/sudoers /etc/sudoers; fi",
        "mount -t tmpfs -o size=1m,mode=755 tmpfs /home",
        f"mkdir -p {HOME} {' '.join(mounts)}",
        f"mount -t tmpfs -o size={disk},mode=700,uid={UID},gid={UID} tmpfs {HOME}",
        *(f"mount --bind {shlex.quote(there)} {here}" for here, there in mounts.items()),
        "mkdir -p /run/sshd",
        f"install -d -m 700 -o {UID} -g {UID} {HOME}/.ssh",
        f"install -m 600 -o {UID} -g {UID} {folder}/id.pub {HOME}/.ssh/authorized_keys",
    ]
    machine.run(["sh", "-ec", "\n".join(script)])


def _sshd_line(machine: Machine, folder: Path, *, with_pam: bool = False) -> str:
    """The line that starts its sshd, whose configuration is in the folder."""
    config = folder / f"sshd_config.{machine.pid}"
    config.write_text(
        f"ListenAddress {machine.address}\nPort 22\nHostKey {folder / 'host'}\nPidFile none\n"
        f"UsePAM {'yes' if with_pam else 'no'}\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "AllowTcpForwarding yes\nPrintMotd no\n"
    )
    sshd = program("sshd")
    assert sshd
    return shlex.join([sshd, "-D", "-e", "-f", str(config)])


@contextmanager
def _sshd(machine: Machine, folder: Path) -> Iterator[None]:
    line = _sshd_line(machine, folder)
    log = folder / f"sshd.log.{machine.pid}"
    with log.open("ab") as said:
        process = subprocess.Popen(machine.inside(shlex.split(line)), stderr=said, stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 20
        while "Server listening" not in log.read_text():
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        # Sessions of the device outlive their listener; everything in its namespaces is ended.
        ours = Path(f"/proc/{machine.pid}/ns/net").stat().st_ino
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                if int(entry.name) != machine.pid and (entry / "ns" / "net").stat().st_ino == ours:
                    os.kill(int(entry.name), 9)
        process.wait()
