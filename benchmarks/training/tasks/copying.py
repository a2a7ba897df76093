"""Copy memory: symbols at the start, blanks, and at the end all of them are asked in order.

Inputs are one-hot: symbols, the blank, and the signal that asks.  Only answers after the signal count; guessing is
right once in ``SYMBOLS``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.training.tasks._base import HELD_OUT, Batch, Data, Metric, Task, fingerprint
from critinit.errors import ArgumentError
from critinit.spec import Padding

__all__ = ["TASKS"]

SYMBOLS = 4
"""Symbols that can be asked."""
LENGTH = 3
"""Symbols to recall."""
_HELD_SEED = 1


def _make(T: int, files: Sequence[str]) -> Data:
    if T <= 2 * LENGTH or files:
        found = f"T = {T} and {len(files)} file(s)"
        raise ArgumentError("copy", found=found, allowed=f"T above {2 * LENGTH}, no file")

    def sample(rng: np.random.Generator, n: int) -> Batch:
        symbols = rng.integers(SYMBOLS, size=(LENGTH, n))
        seen = np.full((T, n), SYMBOLS)  # blank
        seen[:LENGTH] = symbols
        seen[T - LENGTH] = SYMBOLS + 1  # the signal
        return Batch(np.eye(SYMBOLS + 2, dtype=np.float32)[seen], symbols)

    held = sample(np.random.default_rng(_HELD_SEED), HELD_OUT)
    power = 1 / (SYMBOLS + 2)  # of any one-hot input, blanks too
    blanks = Padding(variance=power, constant=True)
    return Data(SYMBOLS + 2, SYMBOLS, power, blanks, sample, held, fingerprint(held.y))


TASKS = (
    Task(
        "copy",
        f"{LENGTH} of {SYMBOLS} symbols recalled after T steps",
        Metric("accuracy", rises=True),
        0.9,
        _make,
        frozenset({60, 100}),
    ),
)
