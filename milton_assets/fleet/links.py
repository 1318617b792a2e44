"""What carries the protocol to a device: a process whose standard input and output lead to the agent there.

    link = SshLink("pi", "kitchen.local", None)
    with link.opened(agent_command("kitchen", None)) as wire: ...

What belongs here: the system's own OpenSSH, started with a list of arguments, and what its failures mean. What does
not: the protocol (`wire`) and what is asked (`asking`).

OpenSSH is the user's: its ssh_config, jump hosts, agents, hardware keys and known hosts count as they do in a terminal.
Nothing is ever typed (`BatchMode`), and a host's key is always checked.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Protocol
from urllib.parse import unquote, urlsplit

from milton_assets.fleet.wire import Wire, WireBroken
from milton_assets.vocabulary.errors import BadInput, MiltonError

CONNECT_S = 15
GREETING_S = 60.0
_LAST_CHARACTERS = 1000
_HOST = re.compile(r"[A-Za-z0-9_.:%-]{1,253}")
_USER = re.compile(r"[A-Za-z0-9_.@+-]{1,64}")


class Unreachable(MiltonError):
    """The device did not answer. It may later."""


class NotLetIn(BadInput):
    """The device answered, and the connection must not or cannot be used as things are."""


class NoAgent(BadInput):
    """The device lets us in, and no agent answers there."""


class Link(Protocol):
    """How to reach a device's programs."""

    def command(self, remote: str, *, fresh: bool = False) -> Sequence[str]:
        """The local command whose standard input and output are those of `remote`, a line for the device's shell."""
        ...


@dataclass(frozen=True)
class SshLink:
    """`user@host`, as OpenSSH understands it. With `accept_new` a host that is not known yet is believed and kept."""

    user: str | None
    host: str
    port: int | None = None
    accept_new: bool = False

    def command(self, remote: str, *, fresh: bool = False) -> Sequence[str]:
        """See `Link`. With `fresh` no connection that a control master holds is used."""
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "accept-new" if self.accept_new else "yes",
            "ConnectTimeout": str(CONNECT_S),
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "ClearAllForwardings": "yes",
            **({"ControlPath": "none"} if fresh else {}),
        }
        return [
            "ssh",
            "-T",
            *(part for name, value in options.items() for part in ("-o", f"{name}={value}")),
            *(("-p", str(self.port)) if self.port is not None else ()),
            *(("-l", self.user) if self.user is not None else ()),
            "--",
            self.host,
            remote,
        ]


@dataclass(frozen=True)
class SshPlace:
    """What an `ssh:` URL says: the link, the target's folder on the device if it names one, and a rate in Mbit/s."""

    link: SshLink
    folder: str | None
    max_mbit_per_s: float | None


def ssh_place(url: str) -> SshPlace:
    """Read `ssh://[user@]host[:port][/folder][?max_mbit_per_s=N]`. Raises `BadInput`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _no_place(url, "its port is no number") from None
    host, user = parts.hostname or "", unquote(parts.username) if parts.username else None
    if parts.scheme != "ssh" or not _HOST.fullmatch(host) or host.startswith("-"):
        raise _no_place(url, "it names no host")
    if parts.password is not None:
        raise _no_place(url, "it holds a password")
    if user is not None and (not _USER.fullmatch(user) or user.startswith("-")):
        raise _no_place(url, "its user is no user name")
    rate = re.fullmatch(r"max_mbit_per_s=(\d{1,6}(?:\.\d{1,3})?)", parts.query)
    if parts.fragment or (parts.query and (rate is None or not float(rate.group(1)))):
        raise _no_place(url, f"nobody knows {parts.query or parts.fragment!r:.100}")
    folder = unquote(parts.path)
    if "\0" in folder or "\n" in folder or ".." in folder.split("/"):
        raise _no_place(url, "its folder is no plain absolute path")
    return SshPlace(
        SshLink(user, host, port), folder if folder not in {"", "/"} else None, float(rate.group(1)) if rate else None
    )


def _no_place(url: str, why: str) -> BadInput:
    return BadInput(
        f"{url!r:.300} is no address of a device: {why}",
        expected="ssh://user@host, with :port, /folder and ?max_mbit_per_s=N where they are wanted",
    )


@contextmanager
def opened(link: Link, remote: str, *, fresh: bool = False) -> Iterator[Wire]:
    """A wire to the agent that `remote` starts, greeted. Whatever breaks it is raised as what it means.

    Raises `Unreachable`, `NotLetIn` or `NoAgent`, with what OpenSSH said; a `WireBroken` in the block as `Unreachable`.
    """
    with tempfile.TemporaryFile() as said:
        process = _started(link.command(remote, fresh=fresh), said)
        try:
            if process.stdin is None or process.stdout is None:
                raise Unreachable("the connection has no pipes")
            wire = Wire(process.stdout.fileno(), process.stdin.fileno())
            try:
                wire.await_greeting(deadline_s=GREETING_S)
                yield wire
            except WireBroken as error:
                _ended(process)
                raise meaning(process.returncode, _text(said), error) from None
        finally:
            _ended(process)


def _started(command: Sequence[str], said: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, start_new_session=True
        )
    except FileNotFoundError:
        raise BadInput(
            f"there is no program {command[0]!r} here",
            expected="OpenSSH's client",
            remedy="install it (on Debian: apt install openssh-client)",
        ) from None


def _ended(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _text(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read()[-_LAST_CHARACTERS:].decode(errors="replace").strip()


_MEANINGS: tuple[tuple[str, type[MiltonError], str, str], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key .* has changed",
        NotLetIn,
        "the host's key is another than the one that is known: it is another machine, or was set up anew",
        "if it was set up anew, remove the old key with `ssh-keygen -R HOST`; if not, find out who answers there",
    ),
    (
        r"Host key verification failed|No .* host key is known",
        NotLetIn,
        "the host's key is not known here",
        "connect once by hand and compare the key (`ssh HOST`), or believe it with --accept-new-host-key",
    ),
    (
        r"Permission denied|Too many authentication failures",
        NotLetIn,
        "the device lets nobody in without a password, or does not know our key",
        "give it your key (`ssh-copy-id user@host`), or load it into your agent (`ssh-add`)",
    ),
    (r"No space left on device|Disk quota exceeded", NotLetIn, "the device's disk is full", "free room on the device"),
    (
        r"command not found|[Nn]o such file or directory|not found",
        NoAgent,
        "no agent is installed there",
        "`milton target add NAME URL` installs it",
    ),
    (
        r"Could not resolve hostname",
        Unreachable,
        "nobody knows a host of that name",
        "correct the name, or try again when the device is on the network",
    ),
)


def meaning(status: int | None, said: str, broke: WireBroken) -> MiltonError:
    """What it means that a connection broke, by the client's exit status and its last words."""
    last = said.splitlines()[-1] if said else broke.problem
    for pattern, kind, problem, remedy in _MEANINGS:
        if re.search(pattern, said):
            return kind(f"{problem} (ssh: {last:.300})", remedy=remedy)
    if status in {126, 127}:
        return NoAgent(f"no agent is installed there (ssh: {last:.300})", remedy="`milton target add NAME URL` does it")
    if status == 1 and said:
        return Unreachable(
            f"the agent there ended: {last:.400}",
            expected="an agent that goes on answering",
            remedy="`milton-agent check` on the device says what it lacks",
        )
    return Unreachable(
        f"the device cannot be reached: {last:.400}",
        expected="a device that answers",
        remedy="see whether it runs and is on the network; what it serves goes on, and nothing is lost",
    )
