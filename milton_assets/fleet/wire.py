"""The protocol between a controller and a device's agent: frames over two pipes, whoever carries them.

    link = Wire(reader, writer)
    link.send({"verb": "status"}, deadline_s=30)
    frame = link.receive(deadline_s=30)

A frame is two lengths (big endian, 4 bytes each), a JSON object and raw bytes. Whatever arrives is data: it is bounded
before it is read, parsed strictly, and nothing of it is ever executed or unpickled. Whoever waits, waits at most until
a deadline. The agent speaks first, with a greeting in a line of its own, so that a banner before it does no harm; the
greeting names the protocol's version, and another version is refused with both of them named.

What belongs here: frames and the greeting. What does not: what is said in them (`milton_assets.fleet.asking`,
`milton_assets.agent`), and what carries the bytes (`milton_assets.fleet.links`).
"""

from __future__ import annotations

import json
import os
import re
import select
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.strict_json import parse_json

PROTOCOL: Final = 5
MAX_HEADER_BYTES: Final = 64 << 10
MAX_PAYLOAD_BYTES: Final = 64 << 20
MAX_BANNER_BYTES: Final = 64 << 10
GREETING: Final = f"milton-agent protocol {PROTOCOL}\n".encode()

_LENGTHS = struct.Struct(">II")
_GREETING = re.compile(rb"(?:^|\n)milton-agent protocol (\d{1,9})\n")
_READ_BYTES = 1 << 16


class WireBroken(MiltonError):
    """The connection ended, or nothing came before the deadline. What was asked may or may not have been done."""


class ProtocolViolated(BadInput):
    """What arrived is not what the protocol allows."""


@dataclass(frozen=True)
class Frame:
    """One message: a JSON object and the raw bytes that go with it."""

    header: Mapping[str, Any]
    payload: bytes = b""


def packed(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """A frame's bytes. Raises `ProtocolViolated` for one beyond the limits."""
    raw = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    _check_lengths(len(raw), len(payload))
    return _LENGTHS.pack(len(raw), len(payload)) + raw + payload


class Wire:
    """Frames over two file descriptors, which stay their owner's. `max_payload_bytes` is what it takes at most."""

    def __init__(self, reader: int, writer: int, *, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._max_payload_bytes = max_payload_bytes
        os.set_blocking(writer, False)

    def greet(self, *, deadline_s: float) -> None:
        """Say who speaks here: the agent's first words."""
        self._write(b"\n" + GREETING, time.monotonic() + deadline_s)

    def await_greeting(self, *, deadline_s: float) -> bytes:
        """Wait for the agent's greeting; what was said before it (a banner) is returned.

        Raises `ProtocolViolated` when too much is said before it, or it is of another version; `WireBroken`.
        """
        until = time.monotonic() + deadline_s
        while not (found := _GREETING.search(self._buffer)):
            if len(self._buffer) > MAX_BANNER_BYTES:
                raise ProtocolViolated(
                    f"the other side said {len(self._buffer)} bytes and no greeting of an agent",
                    expected=f"the greeting after a banner of at most {MAX_BANNER_BYTES} bytes",
                    remedy="see what its login shell prints, and let it print that on terminals only",
                )
            self._fill(until)
        version = int(found.group(1))
        banner = bytes(self._buffer[: found.start()])
        del self._buffer[: found.end()]
        if version != PROTOCOL:
            raise ProtocolViolated(
                f"the agent speaks protocol {version}, this milton speaks protocol {PROTOCOL}",
                expected="one protocol on both sides",
                remedy="`milton target add` installs this milton's agent there",
            )
        return banner

    def send(self, header: Mapping[str, Any], payload: bytes = b"", *, deadline_s: float) -> None:
        """Send a frame. Raises `WireBroken` when it does not get through before the deadline."""
        self._write(packed(header, payload), time.monotonic() + deadline_s)

    def receive(self, *, deadline_s: float) -> Frame:
        """The next frame. Raises `WireBroken` at the end or the deadline, `ProtocolViolated` for what is no frame."""
        until = time.monotonic() + deadline_s
        while (frame := self._next()) is None:
            self._fill(until)
        return frame

    def waiting(self) -> bool:
        """Whether a frame, or a part of one, can be read now without waiting."""
        return bool(self._buffer) or bool(select.select([self._reader], [], [], 0)[0])

    def _next(self) -> Frame | None:
        if len(self._buffer) < _LENGTHS.size:
            return None
        header_bytes, payload_bytes = _LENGTHS.unpack_from(self._buffer)
        _check_lengths(header_bytes, payload_bytes, self._max_payload_bytes)
        body = _LENGTHS.size + header_bytes
        if len(self._buffer) < body + payload_bytes:
            return None
        header = parse_json(bytes(self._buffer[_LENGTHS.size : body]), "a frame's header")
        if not isinstance(header, dict):
            raise ProtocolViolated(f"a frame's header is a JSON {type(header).__name__}", expected="an object")
        payload = bytes(self._buffer[body : body + payload_bytes])
        del self._buffer[: body + payload_bytes]
        return Frame(header, payload)

    def _fill(self, until: float) -> None:
        if not select.select([self._reader], [], [], max(0.0, until - time.monotonic()))[0]:
            raise WireBroken("nothing came from the other side before the deadline")
        try:
            raw = os.read(self._reader, _READ_BYTES)
        except OSError as error:
            raise WireBroken(f"the connection broke: {error.strerror}") from None
        if not raw:
            raise WireBroken("the other side ended the connection")
        self._buffer += raw

    def _write(self, raw: bytes, until: float) -> None:
        left = memoryview(raw)
        while left:
            if not select.select([], [self._writer], [], max(0.0, until - time.monotonic()))[1]:
                raise WireBroken("the other side took nothing before the deadline")
            try:
                left = left[os.write(self._writer, left) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise WireBroken(f"the connection broke: {error.strerror}") from None


def _check_lengths(header_bytes: int, payload_bytes: int, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> None:
    if not 2 <= header_bytes <= MAX_HEADER_BYTES or payload_bytes > max_payload_bytes:
        raise ProtocolViolated(
            f"a frame of {header_bytes} and {payload_bytes} bytes",
            expected=f"a header of 2 to {MAX_HEADER_BYTES} bytes and at most {max_payload_bytes} beside it",
        )
