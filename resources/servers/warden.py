"""A small process between us and a server, which ends the server and all it started when we end, however we end.

    python -I -S warden.py PARENT_PID GRACE_S MEMORY_LIMIT_BYTES PROGRAM [ARGUMENT…]

What belongs here: standing guard. What does not: imports beyond the standard library (it is run as a file, in isolated
mode, so that it starts within milliseconds), and knowing what it guards.

It starts the program in a process group of its own and waits for the first of: the program ends; standard input is
closed (the parent stopped it, or died, were it by SIGKILL); the parent is no longer its parent (someone inherited the
other end of standard input); SIGTERM, SIGINT or SIGHUP; the program and its descendants hold more memory of their own
than the limit (0: there is none; mapped files do not count). Then it sends SIGTERM to the program, SIGKILL after the
grace, and SIGKILL to every descendant that is left: as a subreaper it inherits those whose own parents are gone, so
none can slip away. Its exit status is the program's, as a shell would give it: 128 + N after signal N, 127 when it
could not be started; 125 after too much memory, for which it says so and gives no grace.

Where its standard output is a file without a name, nobody else can shorten that: what was written longest ago is given
back to the disk, so that a server that runs for a year does not fill it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_WATCH_INTERVAL_S = 0.5
_MEMORY_INTERVAL_S = 0.1
_FAMILY_INTERVAL_S = 2.0
OUTPUT_INTERVAL_S = 1.0
MOST_OUTPUT_BYTES = 16 << 20
_KEPT_OUTPUT_BYTES = 1 << 20
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01
TOO_MUCH_MEMORY = 125
_NOT_STARTED = 127


def main(argv: list[str]) -> int:
    """Guard the program until it or the parent ends; the exit status."""
    parent, grace_s, limit_bytes, command = int(argv[0]), float(argv[1]), int(argv[2]), argv[3:]
    memory = _Memory(limit_bytes)
    libc = ctypes.CDLL(None, use_errno=True)
    output = _Output(libc)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _: asked_to_stop.append(got))
    try:
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            process_group=0,
            # Should the warden itself be killed, the program goes too.
            preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
        )
    except OSError as error:
        print(f"cannot start {command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return _NOT_STARTED
    try:
        while program.poll() is None and os.getppid() == parent and not asked_to_stop:
            pause_s = _MEMORY_INTERVAL_S if limit_bytes else _WATCH_INTERVAL_S
            ready, _, _ = select.select([sys.stdin, woken], [], [], pause_s)
            output.forget_the_beginning()
            if memory.is_spent():
                program.kill()
                program.wait()
                return TOO_MUCH_MEMORY
            if woken in ready:
                os.read(woken, 4096)
            if sys.stdin in ready and not os.read(sys.stdin.fileno(), 4096):
                break
        _end(program, grace_s)
    finally:
        _kill_descendants()
    status = program.returncode
    return 128 - status if status < 0 else status


class _Memory:
    """What the program and its descendants hold against a limit: resident memory that is no mapped or shared file."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._family: list[int] = []
        self._looked_at = -_FAMILY_INTERVAL_S

    def is_spent(self) -> bool:
        """Whether they hold more than the limit; says so on standard error."""
        if not self._limit_bytes:
            return False
        if time.monotonic() - self._looked_at >= _FAMILY_INTERVAL_S or not self._family:
            self._family, self._looked_at = _descendants(os.getpid()), time.monotonic()
        held_bytes = sum(map(self._held_bytes, self._family))
        if held_bytes <= self._limit_bytes:
            return False
        found, allowed = (f"{number / 1e9:.1f} GB" for number in (held_bytes, self._limit_bytes))
        print(f"the warden ended it: it holds {found} of memory, allowed are {allowed}", file=sys.stderr)  # noqa: T201
        return True

    def _held_bytes(self, pid: int) -> int:
        try:
            _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
        except (OSError, ValueError):  # it has just ended
            return 0
        return (int(resident) - int(shared)) * self._page_bytes


class _Output:
    """What was written to standard output, where that is a file without a name: no more than `MOST_OUTPUT_BYTES` of it
    stay on the disk. The file's length stays what it was, and its beginning reads as zeros."""

    def __init__(self, libc: ctypes.CDLL) -> None:
        self._punch = getattr(libc, "fallocate64", libc.fallocate)
        self._punch.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        is_file = stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)
        self._looked_at = 0.0 if is_file else float("inf")

    def forget_the_beginning(self) -> None:
        """Give back what was written longest ago; says so once where the file system cannot."""
        if time.monotonic() - self._looked_at < OUTPUT_INTERVAL_S:
            return
        self._looked_at = time.monotonic()
        found = os.fstat(sys.stdout.fileno())
        if found.st_nlink or found.st_blocks * 512 <= MOST_OUTPUT_BYTES:
            return
        until = found.st_size - _KEPT_OUTPUT_BYTES
        if self._punch(sys.stdout.fileno(), _PUNCH_HOLE_KEEP_SIZE, 0, until) != 0:
            because = os.strerror(ctypes.get_errno())
            print(f"the warden cannot shorten this log, which grows: {because}", file=sys.stderr)  # noqa: T201
            self._looked_at = float("inf")


def _end(program: subprocess.Popen[bytes], grace_s: float) -> None:
    if program.poll() is None:
        program.terminate()
        try:
            program.wait(grace_s)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def _kill_descendants() -> None:
    """Kill what is left until there is no child to wait for, adopted ones included."""
    while True:
        for pid in _descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for told in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The second field is the name in parentheses and may hold anything, parentheses included.
            parent = int(told.read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        children.setdefault(parent, []).append(int(told.parent.name))
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
