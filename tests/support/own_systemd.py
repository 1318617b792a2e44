"""A systemd of a test's own: process 1 of a machine in namespaces, with a login manager and a bus, and no more.

    with waiting_machine() as (pid, boot):   # namespaces, held by a shell that waits; raises `NoNamespaces`
        boot(folder, "sshd -D …")            # mounts what is its own, becomes systemd, starts that service

What belongs here: what a container has to bring for systemd to run in it (https://systemd.io/CONTAINER_INTERFACE), and
taking it apart. What does not: its network, its users and their HOME (`own_network`).

Nothing of this machine is written to: its control groups lie below one of the test's own, its /run, /tmp, /var/log,
/etc/systemd/system and /dev are in memory, /sys is read only, and so is /proc/sys until it has booted (else it would
raise this machine's limit of open files, as systemd does wherever it may). Then that is taken away: a mount above /proc
would keep an unprivileged service from one of its own.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.namespaces import NoNamespaces

SYSTEMD = "/usr/lib/systemd/systemd"
ENTER = ("-n", "-m", "-p", "-i", "-u", "-C")
"""What of the machine's namespaces `nsenter` enters."""
INSTALL = "install it: apt-get install libpam-systemd sudo"
_PROGRAMS = (SYSTEMD, "loginctl", "dbus-daemon", "sudo", "unshare", "nsenter")
_PAM = "*/security/pam_systemd.so"
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_EMPTY = (  # what would start what no test needs, or change this machine: mounts, modules, kernel settings, clocks
    "/usr/lib/systemd/system-generators",
    "/usr/lib/systemd/system/sysinit.target.wants",
    "/usr/lib/systemd/system/sockets.target.wants",
    "/usr/lib/systemd/system/timers.target.wants",
    "/etc/systemd/system",
    "/var/lib/systemd",
    "/var/log",
    "/var/tmp",
    "/run",
)
_MOUNTS = """
umount -R -l /sys/fs/cgroup
mount -o remount,bind,ro /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=755,size=1m tmpfs /mnt
for name in {devices}; do : >/mnt/$name; mount --bind /dev/$name /mnt/$name; done
mkdir /mnt/pts /mnt/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts /mnt/pts
mount -t tmpfs -o mode=1777,size=64m tmpfs /mnt/shm
ln -s pts/ptmx /mnt/ptmx
ln -s /proc/self/fd /mnt/fd
mount --move /mnt /dev
for folder in {empty}; do mount -t tmpfs -o mode=755,size=64m tmpfs $folder; done
chmod 1777 /var/tmp
mount --bind {folder} /mnt
mount -t tmpfs -o mode=1777,size=64m tmpfs /tmp
mkdir -p {folder}
mount --move /mnt {folder}
mount --bind {folder}/machine-id /etc/machine-id
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
"""
_TARGET = "[Unit]\nWants=dbus.socket systemd-logind.service systemd-journald.service own-{name}.service\n"
_SERVICE = """[Service]
ExecStartPre=/bin/mkdir -p /run/sshd
ExecStart={line}
StandardError=append:{log}
KillMode=process
"""


@contextmanager
def waiting_machine() -> Iterator[tuple[int, Callable[[Path, str], None]]]:
    """A machine whose process 1 waits to become systemd; the process, and what boots it with one service, whose line is
    given, and which writes to `service.log` in the folder. Raises `NoNamespaces`."""
    missing = [name for name in _PROGRAMS if not shutil.which(name)]
    if not any(Path("/usr/lib").glob(_PAM)):
        missing.append("pam_systemd")
    if missing:
        raise NoNamespaces(f"there is no {', '.join(missing)} here; {INSTALL}")
    group = _own_group()
    script = (
        # Whatever ends the tests ends it.
        f"echo $$ >{group}/cgroup.procs && exec setpriv --pdeathsig KILL unshare --fork --kill-child "
        "--mount --net --pid --ipc --uts --cgroup sh -ec 'ip link set lo up; echo ready; read script; . \"$script\"'"
    )
    process = subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    first = 0
    try:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        if process.stdout.readline() != "ready\n":
            raise NoNamespaces(f"no namespaces can be made here: {process.stderr.read().strip()[:200]}")
        stdin = process.stdin
        first = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())

        def boot(folder: Path, line: str) -> None:
            (folder / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
            stdin.write(f"{_boot_script(folder, line)}\n")
            stdin.flush()
            _wait_until_up(first, process)

        yield first, boot
    finally:
        if first:
            with suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)  # and with it everything that runs there
        process.kill()
        process.communicate()
        _remove(group)


def _own_group() -> Path:
    """A control group of the test's own, below the root of this machine's."""
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    roots = [Path(words[4]) for words in mounts if "cgroup2" in words[words.index("-") :]]
    if not roots:
        raise NoNamespaces("no control groups (version 2) are mounted here")
    group = roots[0] / f"milton-test-{uuid.uuid4().hex[:12]}"
    try:
        group.mkdir()
    except OSError as error:
        raise NoNamespaces(f"no control group can be made in {roots[0]}: {error.strerror}") from error
    return group


def _remove(group: Path) -> None:
    until = time.monotonic() + 20
    while group.exists():
        for folder, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()
        assert time.monotonic() < until, f"{group} holds processes still"
        time.sleep(0.02)


def _boot_script(folder: Path, line: str) -> Path:
    """The script by which process 1 becomes systemd, in the folder; where it is."""
    name = Path(shlex.split(line)[0]).name
    units = {
        "own.target": _TARGET.format(name=name),
        f"own-{name}.service": _SERVICE.format(line=line, log=folder / "service.log"),
    }
    mounts = _MOUNTS.format(devices=" ".join(_DEVICES), empty=" ".join(_EMPTY), folder=shlex.quote(str(folder)))
    written = "".join(f"cat >/etc/systemd/system/{unit} <<'UNIT'\n{text}UNIT\n" for unit, text in units.items())
    # By `container` systemd knows that it is not alone on the machine.
    become = f'exec env -i PATH="$PATH" container=milton {SYSTEMD} --system --unit=own.target --log-target=null'
    script = folder / "boot.sh"
    script.write_text(f"set -e\n{mounts}{written}exec </dev/null >/dev/null 2>{folder}/boot.log\n{become}\n")
    return script


def _wait_until_up(first: int, process: subprocess.Popen[str]) -> None:
    inside = ["nsenter", "-t", str(first), *ENTER]
    until = time.monotonic() + 30
    while True:
        said = subprocess.run(
            [*inside, "systemctl", "is-system-running"], capture_output=True, text=True, timeout=20, check=False
        ).stdout.strip()
        if said == "running":
            break
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < until and said != "degraded", f"systemd says {said or 'nothing'}"
        time.sleep(0.05)
    subprocess.run([*inside, "umount", "-l", "/proc/sys"], check=True, timeout=20)
