"""A real sshd on a loopback port, or in a network namespace: its own host key, its own HOME, its own authorized keys.

What belongs here: starting and ending it, and an `ssh` on PATH that knows how to reach it, as a person's ssh_config
would. What does not: assertions, and what runs on the device.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

INSTALL = "install it: apt-get install openssh-server"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class OwnSshd:
    """An sshd in the folder `root`, whose one user logs in with the key `root/id` and finds `root/home` as HOME.

    `address` is where it listens, `within` what its command is started by: `ip netns exec NAME`.
    """

    root: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    banner: str = ""
    forced: str = ""
    address: str = "127.0.0.1"
    within: tuple[str, ...] = ()

    @property
    def home(self) -> Path:
        """The device's HOME."""
        return self.root / "home"

    @property
    def user(self) -> str:
        """Who logs in: whoever runs the tests."""
        return pwd.getpwuid(os.getuid()).pw_name

    def start(self) -> None:
        """Start it; it answers when this returns."""
        program = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
        assert program, f"there is no sshd on this machine; {INSTALL}"
        self.home.mkdir(parents=True, exist_ok=True)
        for name in ("host", "id"):
            if not (self.root / name).exists():
                make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.root / name)]
                subprocess.run(make, check=True)
        (self.root / "banner").write_text(self.banner)
        self.authorize("")
        config = self.root / "sshd_config"
        config.write_text(
            "\n".join(
                [
                    f"ListenAddress {self.address}",
                    f"Port {self.port}",
                    f"HostKey {self.root / 'host'}",
                    f"AuthorizedKeysFile {self.root / 'authorized_keys'}",
                    f"PidFile {self.root / 'pid'}",
                    "PasswordAuthentication no",
                    "KbdInteractiveAuthentication no",
                    "PermitRootLogin yes",
                    "StrictModes no",
                    "UsePAM no",
                    f"SetEnv HOME={self.home}",
                    f"Banner {self.root / 'banner'}" if self.banner else "",
                ]
            )
            + "\n"
        )
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where Debian's sshd confines itself
        log = (self.root / "sshd.log").open("ab")
        said_before = (self.root / "sshd.log").stat().st_size
        command = [*self.within, program, "-D", "-e", "-f", str(config)]
        self.process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        until = time.monotonic() + 20
        while b"Server listening" not in (self.root / "sshd.log").read_bytes()[said_before:]:
            assert self.process.poll() is None, (self.root / "sshd.log").read_text()
            assert time.monotonic() < until, (self.root / "sshd.log").read_text()
            time.sleep(0.05)

    def authorize(self, options: str) -> None:
        """Let the key in, with what stands before it in `authorized_keys`; a shell starts in the device's HOME."""
        key = (self.root / "id.pub").read_text().strip()
        # The user's passwd entry names another home than the device's, so every command starts by going there.
        forced = options or f'command="cd {shlex.quote(str(self.home))} && exec sh -c \\"$SSH_ORIGINAL_COMMAND\\""'
        (self.root / "authorized_keys").write_text(f"{forced} {key}\n")

    def stop(self) -> None:
        """End it, and every connection to it."""
        if self.process is not None:
            subprocess.run(["pkill", "-KILL", "-P", str(self.process.pid)], check=False)
            self.process.kill()
            self.process.wait()
            self.process = None

    def client(self, folder: Path, *, port: int | None = None, within: tuple[str, ...] = ()) -> Path:
        """A folder to put first on PATH: its `ssh` uses a config, a key and known hosts of its own, started by
        `within`."""
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "config"
        config.write_text(
            f"Host *\n  IdentityFile {self.root / 'id'}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {folder / 'known_hosts'}\n  Port {port or self.port}\n  LogLevel ERROR\n"
        )
        others = [part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != folder]
        real = shutil.which("ssh", path=os.pathsep.join(others))
        assert real, "there is no ssh on this machine; install it: apt-get install openssh-client"
        wrapper = folder / "ssh"
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.join([*within, real])} -F {shlex.quote(str(config))} "$@"\n')
        wrapper.chmod(0o755)
        return folder

    def reached_from(self, folder: Path, patch: pytest.MonkeyPatch) -> str:
        """Put such a client, which knows the host, first on PATH; the device's URL."""
        self.know(self.client(folder))
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return f"ssh://{self.user}@{self.address}:{self.port}"

    def know(self, folder: Path) -> None:
        """Let the client in `folder` know the host's key."""
        kind, key, *_ = (self.root / "host.pub").read_text().split()
        ports = {self.port, int((folder / "config").read_text().split("Port ")[1].split()[0])}
        with (folder / "known_hosts").open("a") as hosts:
            hosts.writelines(f"[{self.address}]:{port} {kind} {key}\n" for port in ports)
