"""When bytes left and arrived, as the kernel saw it, on the one clock.

What belongs here: Linux's software time stamps of TCP sockets (the kernel's documentation, networking/timestamping),
and their conversion to `now_ns`. What does not: connections (`connection`). Needs the standard library alone, since the
truth server loads it by its path.

A stamp taken by this process says when it got round to looking; on a machine whose cores the model server keeps busy
that is milliseconds late. The kernel stamps a segment when it comes in, and when it goes out. Where it does not
(another system, TLS), the process's own stamp is what there is.
"""

from __future__ import annotations

import re
import socket
import struct
import time
from dataclasses import dataclass
from time import perf_counter_ns as now_ns

_SO_TIMESTAMPING = 37
_TX_SOFTWARE, _RX_SOFTWARE, _REPORT_SOFTWARE, _OPT_ID, _OPT_TSONLY = 1 << 1, 1 << 3, 1 << 4, 1 << 7, 1 << 11
_FLAGS = _TX_SOFTWARE | _RX_SOFTWARE | _REPORT_SOFTWARE | _OPT_ID | _OPT_TSONLY
_TIMESPEC = struct.Struct("@ll")
_EXTENDED_ERROR = struct.Struct("@IBBBBII")
_ERROR_MESSAGES = {(socket.IPPROTO_IP, 11), (socket.IPPROTO_IPV6, 25)}
_ORIGIN_TIMESTAMPING = 4
_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n")
_MAX_PIECE_BYTES = 1 << 13
_MAX_CONTROL_BYTES = 512
_CLOCKS_APART_NS = 20_000
_TRIES = 4
_PLAUSIBLE_AGE_NS = 60_000_000_000

Control = list[tuple[int, int, bytes]]


@dataclass(frozen=True)
class Arrival:
    """Bytes (none when the peer closed), when they arrived, and whether the kernel said so."""

    stamp_ns: int
    data: bytes
    by_kernel: bool


def enable(connection: socket.socket) -> bool:
    """Ask the kernel to stamp this connection, before anything is sent on it. False where it cannot."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, _FLAGS)
    except OSError:
        return False
    return True


def receive(connection: socket.socket) -> list[Arrival]:
    """What has come in, cut after every blank line; at least one. Raises `OSError` as `recvmsg`.

    Segments that are read at once bear the last one's stamp. A late reader would give that stamp to all the events
    that came in meanwhile, so what lies there is looked at first, and then read event by event. What the kernel has
    merged in its queue by then still shares the last one's stamp.
    """
    waiting = connection.recv(_MAX_PIECE_BYTES, socket.MSG_PEEK)
    cuts = [match.end() for match in _BLANK_LINE.finditer(waiting)]
    if not cuts or cuts[-1] < len(waiting):
        cuts.append(len(waiting))
    pieces = [_take(connection, end - begin) for begin, end in zip([0, *cuts], cuts, strict=False)]
    now, wall = _both_clocks()
    return [
        Arrival(now, data, by_kernel=False)
        if stamp is None
        else Arrival(_back(now, wall - stamp), data, by_kernel=True)
        for data, stamp in pieces
    ]


def _take(connection: socket.socket, size: int) -> tuple[bytes, int | None]:
    data, control, _, _ = connection.recvmsg(max(size, 1), _MAX_CONTROL_BYTES)
    return data, _software_stamp(control)


def departure(connection: socket.socket, last_byte: int) -> int | None:
    """When byte number `last_byte` (from 0, of all that was sent) went out; None when the kernel has not said (yet)."""
    found = None
    while True:
        try:
            _, control, _, _ = connection.recvmsg(0, _MAX_CONTROL_BYTES, socket.MSG_ERRQUEUE)
        except OSError:
            return found
        stamp = _software_stamp(control)
        if stamp is not None and _byte_number(control) == last_byte & 0xFFFFFFFF:
            found = on_clock(stamp)


def on_clock(wall_ns: int) -> int:
    """The instant of `now_ns` that an instant of the wall clock in the recent past was.

    The two are read together just now, so that steps of the wall clock before it do no harm; an age that makes no
    sense, as after a step in between, counts as none.
    """
    now, wall = _both_clocks()
    return _back(now, wall - wall_ns)


def _both_clocks() -> tuple[int, int]:
    for _ in range(_TRIES):
        before, wall, after = now_ns(), time.time_ns(), now_ns()
        if after - before < _CLOCKS_APART_NS:
            break
    return before, wall


def _back(now: int, age_ns: int) -> int:
    return now - age_ns if 0 <= age_ns < _PLAUSIBLE_AGE_NS else now


def _software_stamp(control: Control) -> int | None:
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPING) and len(data) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            if seconds:
                return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return None


def _byte_number(control: Control) -> int | None:
    for level, kind, data in control:
        if (level, kind) in _ERROR_MESSAGES and len(data) >= _EXTENDED_ERROR.size:
            _, origin, _, _, _, _, number = _EXTENDED_ERROR.unpack_from(data)
            if origin == _ORIGIN_TIMESTAMPING:
                return int(number)
    return None
