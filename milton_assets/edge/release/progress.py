"""Progress of a pass over bytes.

What belongs here: turning bytes into a few steps for people. What does not: showing them.
"""

from __future__ import annotations

from collections.abc import Callable

from milton_assets.vocabulary.progress import OnProgress, Progress


class ByteProgress:
    """Turns bytes into at most twenty steps of progress."""

    _STEPS = 20

    def __init__(self, stage: str, total_bytes: int, on_progress: OnProgress) -> None:
        self._stage = stage
        self._total = max(total_bytes, 1)
        self._on_progress = on_progress
        self._before = 0
        self._step = -1

    def of(self, name: str) -> Callable[[int], None]:
        """A listener for the bytes of one file."""

        def on_bytes(done: int) -> None:
            bytes_done = self._before + done
            step = min(self._STEPS, bytes_done * self._STEPS // self._total)
            if step > self._step:
                self._step = step
                note = f"{name}: {bytes_done / 1e6:.0f} of {self._total / 1e6:.0f} MB"
                self._on_progress(Progress(self._stage, step, self._STEPS, note))

        return on_bytes

    def finished(self, size_bytes: int) -> None:
        """One more file is done."""
        self._before += size_bytes
