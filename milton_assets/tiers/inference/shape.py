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
_OPENING_SHARE = 0.1
"""Of the text, at most, came before the silence that an opening is followed by."""
_USUAL_GAPS = 3.0
_LEAST_SILENCE_NS = 5_000_000
"""Shorter than so many of the stream's other gaps and 5 ms, a gap is one among others."""


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
        self._gaps = 0
        self._longest_ns = 0
        self._bytes_before_longest = 0

    def add(self, stamp_ns: int, text: str) -> bool:
        """Take one event; whether the stream has printed by now."""
        size = len(text.encode(errors="surrogatepass"))
        if self._first_seen_ns is not None and self._last_ns is not None:
            self._gaps += 1
            if stamp_ns - self._last_ns > self._longest_ns:
                self._longest_ns, self._bytes_before_longest = stamp_ns - self._last_ns, self._text_bytes
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
    def silence_ms(self) -> float | None:
        """How long nothing followed the first letters: the longest gap after text that prints, where hardly any text
        came before it and the other gaps are a third of it at most; None where there is none such."""
        if self._first_seen_ns is None or self._last_ns is None or self._gaps < 2:
            return None
        others_ns = (self._last_ns - self._first_seen_ns - self._longest_ns) / (self._gaps - 1)
        opening = self._bytes_before_longest <= _OPENING_SHARE * self._text_bytes
        if not opening or self._longest_ns <= _USUAL_GAPS * others_ns + _LEAST_SILENCE_NS:
            return None
        return self._longest_ns / 1e6

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
