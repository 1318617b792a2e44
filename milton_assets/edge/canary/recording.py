"""Users' requests as a shadow records them: without what must not be kept, encrypted, and never more than a bound.

What belongs here: what is left out, and the file. What does not: which requests are recorded, and asking them again
(`edge.serving.shadowing`).

What is left out is replaced before anything is written: addresses of mail, long numbers (telephones, cards), what looks
like a key or a token, and what the plan's own patterns match. Each request is a line: AES-GCM (NIST SP 800-38D) with a
random nonce, its place in the file as associated data, in base64. The key lies beside it, readable by the owner alone,
and goes with the canary: so a copy of the recording, or a disk that is given away after it, tells nothing; whoever can
read the owner's files while it runs can read it.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.secrets import REDACTED
from milton_assets.vocabulary.strict_json import parse_json

MAX_REQUEST_BYTES = 256 << 10
"""A larger request is not recorded."""
_NONCE_BYTES = 12
_ALWAYS = (
    r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+",
    r"\(?\+?\d[\d ()/.-]{5,}\d",
    r"\b(?:sk|pk|ghp|gho|xox[a-z])[-_][A-Za-z0-9_-]{10,}",
    r"\b(?=[A-Za-z0-9+/_=-]*\d)(?=[A-Za-z0-9+/_=-]*[A-Za-z])[A-Za-z0-9+/_=-]{24,}",
    r"\b[Bb]earer\s+\S+",
)


def patterns(own: Sequence[str]) -> re.Pattern[str]:
    """One pattern for all that is left out. Raises `BadInput` for one that is no regular expression."""
    for pattern in own:
        try:
            re.compile(pattern)
        except re.error as error:
            raise BadInput(
                f"{pattern!r:.200} is no regular expression: {error}", remedy="quote it for the shell"
            ) from None
    return re.compile("|".join(f"(?:{pattern})" for pattern in (*_ALWAYS, *own)))


def redacted(value: Any, left_out: re.Pattern[str]) -> Any:
    """The value with every text in it redacted; the names of an object's members stay."""
    if isinstance(value, str):
        return left_out.sub(REDACTED, value)
    if isinstance(value, list):
        return [redacted(one, left_out) for one in value]
    if isinstance(value, dict):
        return {name: redacted(one, left_out) for name, one in value.items()}
    return value


class Recorder:
    """The recording at `path` under `key`. For one writer."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._path = path
        self._cipher = AESGCM(key)
        self.requests = 0
        self.size_bytes = 0
        if path.exists():
            lines = path.read_bytes().split(b"\n")
            self.requests, self.size_bytes = len(lines) - 1, path.stat().st_size

    def add(self, body: dict[str, Any]) -> None:
        """Add a request that was redacted. Raises `OSError`."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, json.dumps(body).encode(), str(self.requests).encode())
        line = base64.b64encode(nonce + sealed) + b"\n"
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.write(handle, line) != len(line):
                os.ftruncate(handle, self.size_bytes)
                raise OSError("the disk took half of a request")
        finally:
            os.close(handle)
        self.requests += 1
        self.size_bytes += len(line)

    def read(self, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        """The requests at these places. Raises `BadInput` for a line that is not what was written there."""
        lines = self._path.read_bytes().split(b"\n") if numbers else []
        found = {}
        for number in numbers:
            try:
                raw = base64.b64decode(lines[number], validate=True)
                opened = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], str(number).encode())
            except (binascii.Error, InvalidTag, IndexError, ValueError):
                raise BadInput(
                    f"request {number} in {self._path} is not what was recorded",
                    expected="a recording that only the gateway wrote",
                    remedy="`milton canary stop` ends the shadow; start another",
                ) from None
            found[number] = dict(parse_json(opened, "a recorded request"))
        return found
