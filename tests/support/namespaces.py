"""Machines of a test's own: a process that holds namespaces, and what runs in them.

What belongs here: making the namespaces, and entering them. What does not: what lies in them (`own_network`,
`own_systemd`, `cluster`).
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNET = 0x40000000


class NoNamespaces(Exception):
    """This machine, or this user, cannot make namespaces; the text says why."""


@dataclass(frozen=True)
class Machine:
    """A set of namespaces, held by the process `pid`; `address` is where its sshd listens, if it has one. Its network
    and its mounts are its own, and what else `entered` names to `nsenter`."""

    pid: int
    address: str = ""
    entered: tuple[str, ...] = ("-n", "-m")

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command that runs `command` there, as root."""
        return ["nsenter", "-t", str(self.pid), *self.entered, *command]

    def run(self, command: Sequence[str]) -> str:
        """What `command`, run there as root, says."""
        done = subprocess.run(self.inside(command), capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    @contextmanager
    def network(self) -> Iterator[None]:
        """Sockets that this thread makes within the block are of that machine's network."""
        with Path("/proc/thread-self/ns/net").open() as own, Path(f"/proc/{self.pid}/ns/net").open() as theirs:
            _enter_network(theirs.fileno())
            try:
                yield
            finally:
                _enter_network(own.fileno())

    def hide(self, folders: Sequence[Path]) -> None:
        """From now on these folders are empty there."""
        for folder in folders:
            self.run(["mount", "-t", "tmpfs", "-o", "size=1m,ro", "tmpfs", str(folder)])

    def path(self, inside: str) -> Path:
        """Where this machine finds a path of that one's."""
        return Path(f"/proc/{self.pid}/root{inside}")


def _enter_network(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def program(name: str) -> str | None:
    """Where that program is, those of administrators included."""
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
