"""Variants of a real quantised model: fine-tuned, partly replaced, requantised.

What belongs here: making the files that the delta is measured on, reproducibly. What does not: measuring.

A *fine-tuned* variant moves every weight by a normal deviate of a share of itself (0.1 % by default), by dequantising
each tensor, moving it, and quantising it to the same type again, as a merge of a small adapter would. A *partly
replaced* one has new random weights of the same spread in every n-th tensor. Header and layout stay as they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

Change = Callable[[np.ndarray, int], np.ndarray]


def fine_tuned(source: Path, target: Path, *, share: float = 0.001, seed: int = 7) -> Path:
    """Every weight moved by a normal deviate of `share` of itself."""
    generator = np.random.default_rng(seed)
    return _changed(
        source, target, lambda weights, _: weights * (1 + share * generator.standard_normal(weights.shape, np.float32))
    )


def partly_replaced(source: Path, target: Path, *, every: int = 5, seed: int = 7) -> Path:
    """Every `every`-th tensor drawn anew with the spread it had."""
    generator = np.random.default_rng(seed)

    def change(weights: np.ndarray, number: int) -> np.ndarray:
        if number % every:
            return weights
        return np.asarray(generator.standard_normal(weights.shape, np.float32) * weights.std(), np.float32)

    return _changed(source, target, change)


def _changed(source: Path, target: Path, change: Change) -> Path:
    shutil.copyfile(source, target)
    reader = gguf.GGUFReader(str(target), "r+")
    for number, tensor in enumerate(reader.tensors):
        old = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        new = change(old.astype(np.float32), number)
        if new is not old:
            tensor.data[:] = gguf.quants.quantize(new.astype(np.float32), tensor.tensor_type)
    reader.data.flush()
    return target
