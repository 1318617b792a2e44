"""`bm25s`, imported without JAX.

What belongs here: the import. What does not: what is done with it (`pool`).

Where JAX is installed, `bm25s` calls `jax.lax.top_k` while it is imported, and JAX then takes three quarters of a GPU's
memory, which is the model server's. Top-k by NumPy is what the scores here are defined by anyway, so JAX is hidden for
as long as the import takes; a JAX that was imported before, or is after, works as it would.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == package}
    for name in kept:
        del sys.modules[name]
    sys.modules[package] = None  # type: ignore[assignment]  # how the import system says that there is none
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(kept)


with _hidden("jax"):
    import bm25s

__all__ = ["bm25s"]
