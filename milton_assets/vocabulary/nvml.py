"""NVML, opened for a question and closed again.

    with opened():
        for gpu in devices(): …

What belongs here: that, and the handles of all GPUs. What does not: what is asked of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pynvml


@contextmanager
def opened() -> Iterator[None]:
    """NVML, until the block ends. Raises `pynvml.NVMLError` where there is no driver."""
    pynvml.nvmlInit()
    try:
        yield
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def devices() -> list[object]:
    """A handle of each GPU, in NVML's order. Raises `pynvml.NVMLError`."""
    return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
