"""Adding chunks up to the moments of the inputs, in one pass, in memory that the number of sequences leaves alone.

Means and variances of the columns are merged by Chan's formula; second moments are sums of squares, from which nothing
is subtracted.  The correlation of sequences needs no pairs: at every (t, f)

    Σ_{i≠j} x_i x_j = (Σ_i x_i)² − Σ_i x_i²,

so one sum for each (t, f) suffices.  Padding is the stretch of equal steps at a sequence's end.  Where all sequences
are padded with one value v, its share is taken out of the finished sums exactly: P steps of v leave

    Σ x − P v,    Σ x² − P v²,    M₂ − (v − mean')² P n'/n       (n' = n − P steps of mean mean').
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from critinit.dual import Array
from critinit.inputs.chunks import Chunk, Source
from critinit.inputs.statistics import Columns, ConstantEndings, InputStatistics

__all__ = ["RUN", "SHARE", "Moments"]

Steps = NDArray[np.int64]

_LAGS = (1, 4, 16, 64, 256)
"""Steps between the inputs whose correlation in time is measured: from neighbours to long memory."""
_TAIL = 2**22
"""Numbers kept of one sequence's last steps (32 MB); data with very many features go without the long lags."""
_POSITIONS = 2**22
"""Positions (t, f) at which sequences are compared (32 MB); of longer sequences, evenly spaced steps are."""
SHARE = 0.05
"""Share of all steps from which on unchanging endings count as padding: a smaller one hardly moves a statistic."""
RUN = 3.0
"""Mean length in steps from which on they do: two equal steps are more often chance."""
_COUNTED = 5
"""Steps from which on a column that counts them is noted: fewer are more often chance."""


class Moments:
    """The sums over the chunks of a source."""

    def __init__(self, source: Source) -> None:
        features = source.features
        self.source = source
        self.sequences = self.count = self.steps = 0
        self.mean, self.m2, self.square = np.zeros((3, features))
        self.low, self.high = np.full(features, math.inf), np.full(features, -math.inf)
        self.counting = np.ones((2, features), dtype=np.bool_)  # the steps, from 0 or 1
        self.lags = [lag for lag in _LAGS if lag * features <= _TAIL]
        self.products, self.norms, self.padded_pairs = np.zeros((3, len(self.lags)))
        self.pairs = None if source.steps is None else _Pairs(source.steps, features)
        self.endings = _Endings()
        self.length = 0  # of the sequences that are being added
        self.tail: Array = np.zeros((0, 0, features))  # their last steps, as far back as the longest lag
        self.start: Steps = np.zeros(0, dtype=np.int64)  # since which step nothing has changed

    def add(self, chunk: Chunk) -> None:
        """Take a chunk in: at step 0 new sequences start, otherwise the same go on."""
        x, step = chunk.values, chunk.step
        if step == 0:
            self._close()
            self.sequences += len(x)
            self.tail = x[:, :0]
        self._add_columns(x, step)
        if self.pairs:
            self.pairs.add(x, step)
        self.start = _unchanged_since(x, step, self.start, self.tail)
        joined = np.concatenate([self.tail, x], axis=1)
        self._add_lagged(joined, self.tail.shape[1])
        self.tail, self.length = joined[:, -self.lags[-1] :], step + x.shape[1]

    def _add_columns(self, x: Array, step: int) -> None:
        count = x.shape[0] * x.shape[1]
        total = self.count + count
        mean = x.mean(axis=(0, 1))
        self.m2 += np.sum((x - mean) ** 2, axis=(0, 1)) + (mean - self.mean) ** 2 * (self.count * count / total)
        self.mean += (mean - self.mean) * (count / total)
        self.count = total
        self.square += np.sum(x * x, axis=(0, 1))
        self.low = np.minimum(self.low, x.min(axis=(0, 1)))
        self.high = np.maximum(self.high, x.max(axis=(0, 1)))
        for first in (0, 1):
            if self.counting[first].any():
                counted = np.arange(first + step, first + step + x.shape[1])[:, None]
                self.counting[first] &= np.all(x == counted, axis=(0, 1))

    def _add_lagged(self, joined: Array, old: int) -> None:
        """Products of the steps from ``old`` on with those a lag before them."""
        for k, lag in enumerate(self.lags):
            later = joined[:, max(old, lag) :]
            earlier = joined[:, max(old, lag) - lag :][:, : later.shape[1]]
            self.products[k] += np.sum(later * earlier)
            self.norms[k] += 0.5 * (np.sum(later**2) + np.sum(earlier**2))

    def _close(self) -> None:
        """The sequences that were being added have ended."""
        if self.length:
            self.steps = max(self.steps, self.length)
            starts = self.endings.add(self.tail[:, -1], self.start, self.length)
            for k, lag in enumerate(self.lags):
                self.padded_pairs[k] += np.sum(np.maximum(self.length - starts - lag, 0))
            if self.pairs:
                self.pairs.end(starts, self.length)

    def finish(self, notes: tuple[str, ...]) -> InputStatistics:
        """Return the statistics of all that was taken in; ``notes`` go before those of the moments."""
        self._close()
        endings = self.endings.found(self.sequences, self.count)
        value, padded = (self.endings.value, self.endings.steps) if endings and endings.are_padding else (0.0, 0)
        left = self.count - padded
        mean = (self.mean * self.count - padded * value) / left
        m2 = np.maximum(self.m2 - (value - mean) ** 2 * padded * left / self.count, 0.0)
        square = self.square - padded * np.square(value)
        in_padding = self.padded_pairs * (np.sum(np.square(value)) if padded else 0.0)
        products, norms = self.products - in_padding, self.norms - in_padding
        names = self.source.names or tuple(map(str, range(self.source.features)))
        return InputStatistics(
            shape=(self.sequences, self.steps, self.source.features),
            second_moment=float(np.mean(square / left)),
            correlation=self.pairs.correlation(value, padded > 0) if self.pairs and self.sequences > 1 else None,
            autocorrelation={lag: float(p / q) for lag, p, q in zip(self.lags, products, norms, strict=True) if q > 0},
            endings=endings,
            columns=Columns(names, mean, m2 / left, self.low == self.high),
            notes=(*notes, *self._notes(names)),
        )

    def _notes(self, names: tuple[str, ...]) -> Iterator[str]:
        if self.pairs and self.pairs.stride > 1:
            yield f"sequences were compared at every {self.pairs.stride}th step"
        if still := self.endings.unchanging:
            yield f"{still:,} of {self.sequences:,} sequences never change; they count as input, not as padding"
        if self.steps >= _COUNTED and len(names) > 1:
            for f in np.flatnonzero(self.counting.any(axis=0)):
                yield f"column {names[f]} counts the steps; it looks like a row number: leave it out with --columns"


class _Pairs:
    """Sums over the sequences at each step, from which the correlation of all pairs of sequences follows."""

    def __init__(self, steps: int, features: int) -> None:
        self.stride = max(1, math.ceil(steps * features / _POSITIONS))
        self.sums = np.zeros((math.ceil(steps / self.stride), features))
        self.powers, self.counts = np.zeros((2, len(self.sums)))
        self.padded = np.zeros(steps + 1)  # sequences whose padding starts at a step, less those that end there

    def add(self, x: Array, step: int) -> None:
        """Take numbers in."""
        first = -step % self.stride
        chosen = x[:, first :: self.stride]
        at = slice((step + first) // self.stride, (step + first) // self.stride + chosen.shape[1])
        self.counts[at] += len(x)
        self.sums[at] += chosen.sum(axis=0)
        self.powers[at] += np.sum(chosen**2, axis=(0, 2))

    def end(self, starts: Steps, length: int) -> None:
        """Note from where on the endings of sequences of one length may be padding."""
        np.add.at(self.padded, starts, 1.0)
        self.padded[length] -= len(starts)

    def correlation(self, value: Array | float, without_padding: bool) -> float | None:
        """Return the correlation of different sequences at the same step; None where it is 0 of 0."""
        padded = np.cumsum(self.padded)[:-1][:: self.stride] * without_padding
        counts = self.counts - padded
        sums = self.sums - padded[:, None] * value
        powers = self.powers - padded * np.sum(np.square(value))
        pairs = np.sum(sums**2, axis=1) - powers
        norm = float(np.sum(np.maximum(counts - 1.0, 0.0) * powers))
        return float(np.sum(pairs[counts > 1.0])) / norm if norm > 0.0 else None


class _Endings:
    """The stretches of equal steps with which sequences end."""

    def __init__(self) -> None:
        self.sequences = self.steps = self.unchanging = 0
        self.power, self.same = 0.0, True
        self.value: Array = np.zeros(0)

    def add(self, last: Array, start: Steps, length: int) -> Steps:
        """Take in the last steps of sequences of one length; return where the endings of those that have one start."""
        self.unchanging += int(np.sum(start == 0)) if length > 1 else 0
        has = (start > 0) & (length - start >= 2)
        starts, values = start[has], last[has]
        if len(starts):
            self.value = self.value if self.sequences else values[0]
            self.same &= bool(np.all(values == self.value))
            self.sequences += len(starts)
            self.steps += int(np.sum(length - starts))
            self.power += float(np.sum((length - starts) * np.mean(values**2, axis=1)))
        return starts

    def found(self, sequences: int, steps: int) -> ConstantEndings | None:
        """Return what the endings are among so many sequences and steps; None where there are none."""
        if self.sequences == 0:
            return None
        why, share = "", self.steps / steps
        if sequences == 1:
            why = "one sequence does not tell"
        elif not self.same:
            why = "it is not one value"
        elif share < SHARE or self.steps < RUN * self.sequences:
            why = "it is too short to tell"
        return ConstantEndings(self.sequences, share, self.power / self.steps, not why, why)


def _unchanged_since(x: Array, step: int, start: Steps, tail: Array) -> Steps:
    """At which step the equal steps start that end with ``x``, (n,); ``start`` and ``tail`` are of the steps before."""
    n, t, _ = x.shape
    differs = np.any(x != x[:, -1:], axis=2)
    back = np.argmax(differs[:, ::-1], axis=1)  # steps from the end to the last that differs
    changed = differs[np.arange(n), t - 1 - back]
    since = np.where(changed, step + t - back, step)
    if step:
        since = np.where(~changed & np.all(tail[:, -1] == x[:, -1], axis=1), start, since)
    return np.asarray(since, dtype=np.int64)
