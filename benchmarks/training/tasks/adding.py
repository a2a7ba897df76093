"""The adding problem: of T numbers two are marked; their sum is asked at the end (Hochreiter & Schmidhuber 1997).

Inputs: a number uniform on [0, 1], and a marker that is 1 once in the first half and once in the second.  Always
answering 1 has a mean squared error of 1/6.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.training.tasks._base import HELD_OUT, Batch, Data, Metric, Task, fingerprint
from critinit.errors import ArgumentError

__all__ = ["TASKS"]

_HELD_SEED = 1


def _make(T: int, files: Sequence[str]) -> Data:
    if T < 2 or files:
        found = f"T = {T} and {len(files)} file(s)"
        raise ArgumentError("adding", found=found, allowed="T of 2 or more, no file")

    def sample(rng: np.random.Generator, n: int) -> Batch:
        x = np.zeros((T, n, 2), dtype=np.float32)
        x[..., 0] = rng.random((T, n), dtype=np.float32)
        each = np.arange(n)
        first, second = rng.integers(T // 2, size=n), rng.integers(T // 2, T, size=n)
        x[first, each, 1] = x[second, each, 1] = 1.0
        return Batch(x, x[first, each, 0][None] + x[second, each, 0][None])

    held = sample(np.random.default_rng(_HELD_SEED), HELD_OUT)
    number, marker = 1 / 3, 2 / T  # second moments
    # numbers without a mark carry nothing, but they are no padding: the network cannot tell them apart beforehand
    return Data(2, 1, (number + marker) / 2, None, sample, held, fingerprint(held.x))


TASKS = (
    Task(
        "adding",
        "the sum of two marked numbers among T",
        Metric("mean squared error", rises=False),
        0.02,
        _make,
        frozenset({100, 200, 300}),
    ),
)
