"""How a stream's text is spread over its events: what shows a server that streams for the clock and not for a reader.

What belongs here: telling text that prints from text that does not, and the few numbers about a stream that `validity`
judges. What does not: what counts as a token (`stream`), and the judgement.
"""

from __future__ import annotations

import unicodedata

_SEEN_AS_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols by their category that no font draws: Hangul fillers, the empty Braille cell."""
_FLUSHED_BYTES = 24
"""Fewer may be one long token."""
_FLUSHED_SHARE = 0.5


def prints(text: str) -> bool:
    """Whether a reader would see anything of it."""
    return any(_is_seen(character) for character in text)


def is_junk(text: str) -> bool:
    """Whether it is nothing but characters that take no room: zero-width ones and controls, no white space."""
    return bool(text) and not any(_is_seen(character) or character.isspace() for character in text)


def _is_seen(character: str) -> bool:
    if character.isascii():
        return character > " " and character != "\x7f"
    if character in _SEEN_AS_BLANK:
        return False
    return unicodedata.category(character) not in {"Cc", "Cf", "Cn", "Zs", "Zl", "Zp"}


class Shape:
    """Takes each token event with its stamp (ns), and keeps what the whole stream's shape is judged by."""

    def __init__(self) -> None:
        self.blank_events = 0
        """Events before the first that prints."""
        self.junk_events = 0
        self._text_bytes = 0
        self._largest_bytes = 0
        self._silence_before_largest_ns = 0
        self._first_ns: int | None = None
        self._first_seen_ns: int | None = None
        self._last_ns: int | None = None

    def add(self, stamp_ns: int, text: str) -> bool:
        """Take one event; whether the stream has printed by now."""
        size = len(text.encode(errors="surrogatepass"))
        self._text_bytes += size
        if self._last_ns is not None and size > self._largest_bytes:
            self._largest_bytes, self._silence_before_largest_ns = size, stamp_ns - self._last_ns
        self._first_ns = stamp_ns if self._first_ns is None else self._first_ns
        self._last_ns = stamp_ns
        self.junk_events += is_junk(text)
        if self._first_seen_ns is None:
            if not prints(text):
                self.blank_events += 1
                return False
            self._first_seen_ns = stamp_ns
        return True

    @property
    def blank_ms(self) -> float | None:
        """How long before the first text that prints the blank text came; None where there was none."""
        if not self.blank_events or self._first_ns is None or self._first_seen_ns is None:
            return None
        return (self._first_seen_ns - self._first_ns) / 1e6

    @property
    def flushed(self) -> bool:
        """Whether most of the text came in one event, after a silence that was most of the time between the events."""
        if self._first_ns is None or self._last_ns is None or self._largest_bytes < _FLUSHED_BYTES:
            return False
        span_ns = self._last_ns - self._first_ns
        return (
            self._largest_bytes > _FLUSHED_SHARE * self._text_bytes
            and self._silence_before_largest_ns > _FLUSHED_SHARE * span_ns
        )
