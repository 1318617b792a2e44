"""Questions to a device's agent over one wire, answered in their order.

    asking = Asking(wire)
    asking.ask("status")

What belongs here: pairing questions with answers, waiting for one, and raising what the device raised. What does not:
frames (`wire`), what carries them (`links`), which questions there are (`ssh`, `measuring_elsewhere`, `transfer`), and
reading an answer as a noun (`messages`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from milton_assets.fleet.telling import error_of
from milton_assets.fleet.wire import Frame, ProtocolViolated, Wire, WireBroken
from milton_assets.vocabulary.strict_json import parse_json

ANSWER_S = 30.0
"""A device that works says so more often than this."""


@dataclass
class Asking:
    """Questions over one wire, answered in their order."""

    wire: Wire
    _seq: int = 0

    def ask(self, verb: str, payload: bytes = b"", *, within_s: float | None = None, **more: Any) -> Any:
        """Ask, and wait for the answer as plain values, at most `within_s` seconds while the device says that it works.

        Raises what the device raised, and as `answer`.
        """
        self.post(verb, payload, **more)
        return self.answer(within_s=within_s)

    def post(self, verb: str, payload: bytes = b"", **more: Any) -> None:
        """Ask without waiting."""
        self._seq += 1
        self.wire.send({"seq": self._seq, "verb": verb, **more}, payload, deadline_s=ANSWER_S)

    def is_answered(self) -> bool:
        """Whether an answer, or a part of one, is there already."""
        return self.wire.waiting()

    def ask_for_bytes(self, verb: str, **more: Any) -> bytes:
        """Ask for raw bytes, which nobody parses. Raises as `answer`."""
        self.post(verb, **more)
        return self._answered(None).payload

    def answer(self, *, within_s: float | None = None) -> Any:
        """The next answer. Raises what the device raised, `WireBroken`, `ProtocolViolated`."""
        return _plain(self._answered(within_s))

    def _answered(self, within_s: float | None) -> Frame:
        until = None if within_s is None else time.monotonic() + within_s
        while True:
            if until is not None and time.monotonic() > until:
                raise WireBroken(f"the device has worked for {within_s:.0f} s and is not done")
            frame = self.wire.receive(deadline_s=ANSWER_S)
            match frame.header.get("kind"):
                case "working":
                    continue
                case "answer":
                    return frame
                case "error":
                    raise error_of(_plain(frame))
                case kind:
                    raise ProtocolViolated(f"a message of the kind {kind!r:.50}", expected="an answer or an error")


def _plain(frame: Frame) -> Any:
    return parse_json(frame.payload, "an answer of the device") if frame.payload else None
