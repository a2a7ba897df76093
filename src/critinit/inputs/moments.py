"""Adding blocks up to the moments of the inputs, in one pass and in memory that the number of sequences leaves alone.

Column means and variances are merged by Chan's formula; second moments are sums of squares, from which nothing is
subtracted.  The correlation of sequences needs no pairs: at every (t, f)

    Σ_{i≠j} x_i x_j = (Σ_i x_i)² − Σ_i x_i²,

so one sum per (t, f) suffices.  Padding is the stretch of equal steps at a sequence's end.  Where all sequences are
padded with one value v, its share is taken out of the finished sums exactly: P steps of v leave

    Σ x − P v,    Σ x² − P v²,    M₂ − (v − mean')² P n'/n       (n' = n − P steps of mean mean').
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from critinit.inputs.blocks import Block, Source
from critinit.inputs.statistics import Columns, InputStatistics, Padding
from critinit.dual import Array

__all__ = ["Moments"]

Steps = NDArray[np.int64]

_LAGS = (1, 4, 16, 64, 256)
_TAIL = 2**22
"""Numbers kept of the steps before a block."""
_POSITIONS = 2**22
"""Positions (t, f) at which sequences are compared; of longer ones evenly spaced steps are."""
_SHARE = 0.05
"""Padding is certain from this share of all steps on."""
_RUN = 3.0
"""... and from this mean length on, in steps."""


@dataclass(frozen=True)
class _Open:
    """What is remembered of a slab, some sequences' some features, until its time goes on.

    ``tail`` (n, up to the longest lag, f): the steps before; ``start`` (n,): since which step nothing has changed.
    """

    tail: Array
    start: Steps


class Moments:
    """The sums over the blocks of a source."""

    def __init__(self, source: Source) -> None:
        f, steps = source.features, source.steps
        self.source = source
        self.count = np.zeros(f)
        self.mean, self.m2, self.square = np.zeros(f), np.zeros(f), np.zeros(f)
        self.low, self.high = np.full(f, math.inf), np.full(f, -math.inf)
        self.sequences, self.steps = 0, 0
        self.several = source.sequences != 1
        time = source.layout.index("T")
        waiting = (source.sequences or 1) if "N" in source.layout[time:] else 1
        affordable = [lag for lag in _LAGS if lag * waiting * f <= _TAIL and (steps is None or lag < steps)]
        self.lags = tuple(affordable)
        self.products, self.norms = np.zeros(len(self.lags)), np.zeros(len(self.lags))
        self.open: dict[tuple[int, int, int, int], _Open] = {}
        self.padding = _PaddingSums(f)
        if self.several:
            assert steps is not None
            self.stride = max(1, math.ceil(steps * f / _POSITIONS))
            self.sums = np.zeros((math.ceil(steps / self.stride), f))
            self.powers = np.zeros(len(self.sums))
            self.padded = np.zeros(steps + 1)  # at which step how many sequences' padding starts

    def add(self, block: Block) -> None:
        """Take a block in; those of one sequence and feature come in the order of time."""
        x = block.values
        n, t, f = x.shape
        features = slice(block.feature, block.feature + f)
        self.sequences = max(self.sequences, block.sequence + n)
        self.steps = max(self.steps, block.step + t)
        squares = x * x
        self._columns(x, squares, features)
        if self.several:
            first = -block.step % self.stride
            here = slice((block.step + first) // self.stride, None)
            chosen = x[:, first :: self.stride]
            if chosen.shape[1]:
                at = slice(here.start, here.start + chosen.shape[1])
                self.sums[at, features] += chosen.sum(axis=0)
                self.powers[at] += squares[:, first :: self.stride].sum(axis=(0, 2))
        key = (block.sequence, n, block.feature, f)
        before = self.open.pop(key, None)
        start = _unchanged_since(x, block.step, before)
        joined = x if before is None else np.concatenate([before.tail, x], axis=1)
        self._lagged(joined, t)
        if block.last:
            self._close(key, x[:, -1], start)
        else:
            self.open[key] = _Open(joined[:, -max((1, *self.lags)) :].copy(), start)

    def _columns(self, x: Array, squares: Array, features: slice) -> None:
        count = x.shape[0] * x.shape[1]
        mean = x.mean(axis=(0, 1))
        m2 = np.sum((x - mean) ** 2, axis=(0, 1))
        total = self.count[features] + count
        apart = mean - self.mean[features]
        self.m2[features] += m2 + apart**2 * (self.count[features] * count / total)
        self.mean[features] += apart * (count / total)
        self.count[features] = total
        self.square[features] += squares.sum(axis=(0, 1))
        self.low[features] = np.minimum(self.low[features], x.min(axis=(0, 1)))
        self.high[features] = np.maximum(self.high[features], x.max(axis=(0, 1)))

    def _lagged(self, joined: Array, new: int) -> None:
        """Products of the last ``new`` steps with those a lag before them."""
        length = joined.shape[1]
        for k, lag in enumerate(self.lags):
            first = max(length - new, lag)
            if first < length:
                later, earlier = joined[:, first:], joined[:, first - lag : length - lag]
                self.products[k] += np.einsum("ntf,ntf->", later, earlier)
                self.norms[k] += 0.5 * (np.einsum("ntf,ntf->", later, later) + np.einsum("ntf,ntf->", earlier, earlier))

    def _close(self, key: tuple[int, int, int, int], last: Array, start: Steps) -> None:
        whole = self.padding.close(key, last, start, self.steps)
        if whole is not None and self.several:
            np.add.at(self.padded, whole, 1.0)

    def finish(self) -> InputStatistics:
        """The statistics of all that was taken in."""
        for key, slab in list(self.open.items()):  # only the end of the file told their length
            self._close(key, slab.tail[:, -1], slab.start)
        self.open.clear()
        padding = self._padding()
        value, padded = (self.padding.value, self.padding.steps) if padding and padding.certain else (0.0, 0)
        left = self.count - padded
        mean = (self.mean * self.count - padded * value) / left
        m2 = np.maximum(self.m2 - (value - mean) ** 2 * padded * left / self.count, 0.0)
        square = self.square - padded * np.square(value)
        names = self.source.names or tuple(str(n) for n in range(self.source.features))
        notes = []
        if self.several and self.stride > 1:
            notes.append(f"sequences were compared at every {self.stride}th step")
        if found := self.padding.unchanging:
            notes.append(f"{found:,} of {self.sequences:,} sequences never change; they count as input, not as padding")
        return InputStatistics(
            shape=(self.sequences, self.steps, self.source.features),
            second_moment=float(square.sum() / left.sum()),
            correlation=self._correlation(value, padded > 0),
            autocorrelation={
                lag: float(p / q) for lag, p, q in zip(self.lags, self.products, self.norms, strict=True) if q > 0
            },
            padding=padding,
            columns=Columns(names, mean, m2 / left, self.low == self.high),
            notes=tuple(notes),
        )

    def _correlation(self, value: Array | float, without_padding: bool) -> float | None:
        if self.sequences < 2:
            return None
        counts = np.full(len(self.sums), float(self.sequences))
        sums, powers = self.sums, self.powers
        if without_padding:
            padded = np.cumsum(self.padded)[: self.steps : self.stride]
            counts -= padded
            sums = sums - padded[:, None] * value
            powers = powers - padded * np.sum(np.square(value))
        pairs = np.sum(sums**2, axis=1) - powers
        norm = float(np.sum(np.maximum(counts - 1.0, 0.0) * powers))
        return float(np.sum(pairs[counts > 1.0])) / norm if norm > 0.0 else None

    def _padding(self) -> Padding | None:
        found = self.padding
        if found.sequences == 0:
            return None
        share = found.steps / (self.sequences * self.steps)
        if self.sequences == 1:
            why = "one sequence does not tell"
        elif not found.same:
            why = "it is not one value"
        elif share < _SHARE or found.steps < _RUN * found.sequences:
            why = "it is too short to tell"
        else:
            why = ""
        power = found.power / (found.steps * self.source.features)
        return Padding(found.sequences, share, power, not why, why or "one value, in long stretches")


class _PaddingSums:
    """The trailing stretches of finished sequences; features that are stored apart are put together first."""

    def __init__(self, features: int) -> None:
        self.features = features
        self.sequences, self.steps, self.power = 0, 0, 0.0
        self.value = np.full(features, math.nan)
        self.same = True
        self.unchanging = 0
        self.parts: dict[tuple[int, int], list[tuple[int, Array, Steps]]] = {}

    def close(self, key: tuple[int, int, int, int], last: Array, start: Steps, steps: int) -> Steps | None:
        """Take finished features of sequences in; where they were the last, at which step each padding starts."""
        sequence, n, feature, _ = key
        parts = self.parts.setdefault((sequence, n), [])
        parts.append((feature, last, start))
        if sum(values.shape[1] for _, values, _ in parts) < self.features:
            return None
        del self.parts[sequence, n]
        parts.sort(key=lambda part: part[0])
        last = np.concatenate([values for _, values, _ in parts], axis=1)
        start = np.max([since for *_, since in parts], axis=0)
        padded = (start > 0) & (steps - start >= 2)
        self.unchanging += int(np.sum(start == 0)) if steps > 1 else 0
        if np.any(padded):
            lengths, values = steps - start[padded], last[padded]
            self.sequences += int(padded.sum())
            self.steps += int(lengths.sum())
            self.power += float(np.sum(lengths * np.sum(values**2, axis=1)))
            if np.isnan(self.value[0]):
                self.value = values[0].copy()
            self.same = self.same and bool(np.all(values == self.value))
        return start[padded]


def _unchanged_since(x: Array, step: int, before: _Open | None) -> Steps:
    """At which step the stretch of equal steps starts that ends with the block, (n,)."""
    n, t, _ = x.shape
    differs = np.any(x != x[:, -1:], axis=2)
    back = np.argmax(differs[:, ::-1], axis=1)  # steps from the end to the last that differs
    changed = differs[np.arange(n), t - 1 - back]
    start = step + np.where(changed, t - back, 0)
    if before is not None:
        goes_on = ~changed & np.all(before.tail[:, -1] == x[:, -1], axis=1)
        start = np.where(goes_on, before.start, start)
    return np.asarray(start, dtype=np.int64)
