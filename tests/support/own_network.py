"""A device with an address, a HOME and a user of its own: an sshd in namespaces of the test, linked by cables.

    with own_network(folder) as network:           # raises `NoNamespaces` where none can be made
        network.device.run(["id", "-un"])          # on the device
        network.cable.cut(), network.cable.mend()  # `ip link set … down`, `up`

What belongs here: making the namespaces, the cables and the sshds, and taking them apart. What does not: assertions.

The controller has a network namespace too, so nothing of this machine's own network changes: its one cable leads to the
jump host or to the device. The device's mounts are its own: /etc/passwd names one user, `pi`, whose HOME is a disk of a
few megabytes in memory; Python and the packages of this environment lie beside it, and `pi` may not write there. All of
it goes with the processes that hold the namespaces.
"""

from __future__ import annotations

import os
import shlex
import shutil
import site
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
USER, UID = "pi", 4321
HOME = "/home/pi"
_PYTHON = f"/home/python/bin/python{sys.version_info[0]}.{sys.version_info[1]}"


class NoNamespaces(Exception):
    """This machine, or this user, cannot make namespaces; the text says why."""


@dataclass(frozen=True)
class Machine:
    """A set of namespaces, held by the process `pid`; `address` is where its sshd listens, if it has one."""

    pid: int
    address: str = ""

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command that runs `command` there, as root."""
        return ["nsenter", "-t", str(self.pid), "-n", "-m", *command]

    def run(self, command: Sequence[str]) -> str:
        """What `command`, run there as root, says."""
        done = subprocess.run(self.inside(command), capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    def hide(self, folders: Sequence[Path]) -> None:
        """From now on these folders are empty there."""
        for folder in folders:
            self.run(["mount", "-t", "tmpfs", "-o", "size=1m,ro", "tmpfs", str(folder)])

    def path(self, inside: str) -> Path:
        """Where this machine finds a path of that one's."""
        return Path(f"/proc/{self.pid}/root{inside}")


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
            f"Host kitchen\n  HostName {self.device.address}\n{via}"
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
        return (
            f"env MILTON_STATE_DIR={HOME}/state PYTHONPATH=/home/source:/home/packages "
            f"LD_LIBRARY_PATH=/home/python/lib {_PYTHON} -m tests.support.agents --target {target} serve"
        )


@contextmanager
def own_network(folder: Path, *, with_jump_host: bool = False, disk: str = "256m") -> Iterator[OwnNetwork]:
    """Make it, its keys in `folder`, the device's disk of that size. Raises `NoNamespaces`."""
    if missing := [name for name in ("unshare", "nsenter", "ip", "tc", "sshd") if not _program(name)]:
        raise NoNamespaces(f"there is no {', '.join(missing)} here")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("host", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with ExitStack() as life:
        controller = Machine(life.enter_context(held()))
        device = Machine(life.enter_context(held()), "10.213.2.2")
        jump = Machine(life.enter_context(held()), "10.213.1.2") if with_jump_host else None
        near = jump or controller
        if jump:
            _cable(controller, jump, "10.213.1")
        cable = _cable(near, device, "10.213.2")
        for machine, size in ((device, disk), (jump, "8m")):
            if machine:
                _furnish(machine, folder, size)
                life.enter_context(_sshd(machine, folder))
        yield OwnNetwork(controller, device, cable, jump, folder)


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")


@contextmanager
def held() -> Iterator[int]:
    """A process in namespaces of its own, for as long as the block."""
    ready = "mount --make-rprivate / && ip link set lo up && echo ready && exec sleep infinity"
    process = subprocess.Popen(
        ["unshare", "-n", "-m", "sh", "-c", ready], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        if process.stdout.readline() != "ready\n":
            raise NoNamespaces(f"no namespaces can be made here: {process.stderr.read().strip()[:200]}")
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def _cable(one: Machine, other: Machine, net: str) -> Cable:
    names = ("near", "far")
    one.run(["ip", "link", "add", names[0], "type", "veth", "peer", "name", names[1], "netns", str(other.pid)])
    for number, (machine, name) in enumerate(((one, names[0]), (other, names[1])), 1):
        machine.run(["ip", "address", "add", f"{net}.{number}/24", "dev", name])
        machine.run(["ip", "link", "set", name, "up"])
    return Cable(((one, names[0]), (other, names[1])))


def _furnish(machine: Machine, folder: Path, disk: str) -> None:
    """One user with a HOME on a disk of its own, and Python beside it."""
    passwd = f"root:x:0:0:root:/root:/bin/sh\n{USER}:x:{UID}:{UID}:a device's user:{HOME}:/bin/sh\n"
    passwd += "sshd:x:101:65534::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n"
    (folder / "passwd").write_text(passwd)
    (folder / "shadow").write_text(f"root:*:1::::::\n{USER}:*:1::::::\nsshd:!:1::::::\n")
    packages = next(path for path in (*site.getsitepackages(), str(ROOT)) if Path(path).is_dir())
    mounts = {"/home/python": sys.base_prefix, "/home/packages": packages, "/home/source": str(ROOT)}
    script = [
        f"mount --bind {folder}/passwd /etc/passwd",
        f"mount --bind {folder}/shadow /etc/shadow",
        "mount -t tmpfs -o size=1m,mode=755 tmpfs /home",
        f"mkdir -p {HOME} {' '.join(mounts)}",
        f"mount -t tmpfs -o size={disk},mode=700,uid={UID},gid={UID} tmpfs {HOME}",
        *(f"mount --bind {shlex.quote(there)} {here}" for here, there in mounts.items()),
        "mkdir -p /run/sshd",
        f"install -d -m 700 -o {UID} -g {UID} {HOME}/.ssh",
        f"install -m 600 -o {UID} -g {UID} {folder}/id.pub {HOME}/.ssh/authorized_keys",
    ]
    machine.run(["sh", "-ec", "\n".join(script)])


@contextmanager
def _sshd(machine: Machine, folder: Path) -> Iterator[None]:
    config = folder / f"sshd_config.{machine.pid}"
    config.write_text(
        f"ListenAddress {machine.address}\nPort 22\nHostKey {folder / 'host'}\nPidFile none\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nAllowTcpForwarding yes\nPrintMotd no\n"
    )
    program = _program("sshd")
    assert program
    log = folder / f"sshd.log.{machine.pid}"
    with log.open("ab") as said:
        process = subprocess.Popen(
            machine.inside([program, "-D", "-e", "-f", str(config)]), stderr=said, stdin=subprocess.DEVNULL
        )
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
