"""A character model on this repository's own text: windows of T characters, the next one asked at every step.

The text is the sources of ``critinit``, as they were at one commit so that runs of different days compare, the last
tenth held out; characters are one-hot.  Every step's answer counts, from a state of 0 at the window's start.
"""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.training.tasks._base import Batch, Data, Metric, Task, fingerprint
from critinit.errors import ArgumentError

__all__ = ["TASKS"]

_HELD_SHARE = 0.1
_HELD_WINDOWS = 64


def _text() -> str:
    """All modules of ``src/critinit`` in the order of their paths, at commit 4b54954."""
    return lzma.decompress((Path(__file__).parent / "sources.txt.xz").read_bytes()).decode()


def _make(T: int, files: Sequence[str]) -> Data:
    vocabulary, text = np.unique(np.array(list(_text())), return_inverse=True)
    training, held = np.split(text, [round(len(text) * (1 - _HELD_SHARE))])
    if files or len(held) <= T + _HELD_WINDOWS:
        longest = len(held) - _HELD_WINDOWS - 1
        found = f"T = {T} and {len(files)} file(s)"
        raise ArgumentError("characters", found=found, allowed=f"T up to {longest}, no file")
    one_hot = np.eye(len(vocabulary), dtype=np.float32)

    def windows(source: np.ndarray, starts: np.ndarray) -> Batch:
        shown = source[starts[None, :] + np.arange(T + 1)[:, None]]
        return Batch(one_hot[shown[:-1]], shown[1:])

    def sample(rng: np.random.Generator, n: int) -> Batch:
        return windows(training, rng.integers(len(training) - T, size=n))

    starts = np.linspace(0, len(held) - T - 1, _HELD_WINDOWS).astype(np.int64)
    size = len(vocabulary)
    return Data(size, size, 1 / size, None, sample, windows(held, starts), fingerprint(text))


TASKS = (
    Task(
        "characters",
        "the next character of critinit's sources, in windows of T",
        Metric("bits per character", rises=False),
        3.0,
        _make,
        frozenset({60, 100}),
    ),
)
