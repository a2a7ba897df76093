"""Adding chunks up to the moments of the inputs, in one pass, in memory that the number of sequences leaves alone.

Means and variances of the columns are merged by Chan's formula; second moments are sums of squares, from which nothing
is subtracted.  The correlation of sequences needs no pairs: at every (t, f)

    Σ_{i≠j} x_i x_j = (Σ_i x_i)² − Σ_i x_i²,

so one sum for each (t, f) suffices.  Padding is the stretch of equal steps at a sequence's end, or at its beginning.
Where all sequences are padded with one value v, its share is taken out of the finished sums exactly: P steps of v leave

    Σ x − P v,    Σ x² − P v²,    M₂ − (v − mean')² P n'/n       (n' = n − P steps of mean mean').
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from critinit.dual import Array
from critinit.inputs.chunks import Chunk, Source
from critinit.inputs.labels import Labels
from critinit.inputs.lagged import Lagged
from critinit.inputs.spectra import spectrum
from critinit.inputs.statistics import Columns, ConstantStretches, InputStatistics

__all__ = ["RUN", "SHARE", "Moments"]

Steps = NDArray[np.int64]

_LAGS = (1, 4, 16, 64, 256)
"""Steps between the inputs whose correlation in time is measured: from neighbours to long memory."""
_FINE = 256
"""The longest lag that the spectrum is made of."""
_SAMPLED = 2**22
"""Numbers, of the first sequences, that the spectrum is made of.  A million take .4 s in one array, 2 s in lists of
unequal sequences."""
_TAIL = 2**22
"""Numbers kept of one sequence's last steps (32 MB); data with very many features go without the long lags."""
_POSITIONS = 2**22
"""Positions (t, f) at which sequences are compared (32 MB); of longer sequences, evenly spaced steps are."""
SHARE = 0.05
"""Share of all steps from which on unchanging stretches count as padding: a smaller one hardly moves a statistic."""
RUN = 3.0
"""Mean length in steps from which on they do: two equal steps are more often chance."""


class Moments:
    """The sums over the chunks of a source.

    Args:
        source: The source.
        spectrum: Whether the spectrum is asked for.
    """

    def __init__(self, source: Source, *, spectrum: bool = True) -> None:
        features = source.features
        self.source = source
        self.sequences = self.count = self.steps = 0
        self.mean, self.m2, self.square = np.zeros((3, features))
        self.low, self.high = np.full(features, math.inf), np.full(features, -math.inf)
        longest = math.inf if source.steps is None else source.steps
        self.lagged = Lagged([lag for lag in _LAGS if lag == 1 or (lag < longest and lag * features <= _TAIL)])
        self.fine = Lagged([lag for lag in range(1, _FINE + 1) if spectrum and lag <= self.lagged.longest])
        self.pairs = None if source.steps is None else _Pairs(source.steps, features)
        self.beginnings, self.endings = _Stretches(), _Stretches()
        self.unchanging = 0  # sequences
        # steps of the longest sequence without its beginning, its ending, both or neither
        self.longest = {(before, behind): 0 for before in (False, True) for behind in (False, True)}
        self.labels = Labels(features)
        self.length = 0  # of the sequences that are being added
        self.tail: Array = np.zeros((0, 0, features))  # their last steps, as far back as the longest lag
        self.first: Array = np.zeros((0, features))  # their first steps
        self.until: Steps = np.zeros(0, dtype=np.int64)  # until which step nothing had changed
        self.start: Steps = np.zeros(0, dtype=np.int64)  # since which step nothing has changed

    @property
    def largest(self) -> float:
        """The size of the largest number so far."""
        return float(np.max(np.maximum(-self.low, self.high)))

    def add(self, chunk: Chunk) -> None:
        """Take a chunk in: at step 0 new sequences start, otherwise the same go on."""
        x, step = chunk.values, chunk.step
        if step == 0:
            self._close()
            self.sequences += len(x)
            self.tail, self.first = x[:, :0], x[:, 0].copy()
            self.until = np.zeros(len(x), dtype=np.int64)
            self.lagged.begin(len(x))
            self.fine.begin(len(x))
        self._add_columns(x)
        self.labels.add(x, step)
        if self.pairs:
            self.pairs.add(x, step)
        self.start = _unchanged_since(x, step, self.start, self.tail)
        self.until = _unchanged_until(x, step, self.until, self.first)
        joined = np.concatenate([self.tail, x], axis=1)
        for lagged in (self.lagged, self.fine) if self.count <= _SAMPLED else (self.lagged,):
            lagged.add(joined, self.tail.shape[1], step, self.until, self.start)
        self.tail, self.length = joined[:, -self.lagged.longest :], step + x.shape[1]

    def _add_columns(self, x: Array) -> None:
        count = x.shape[0] * x.shape[1]
        total = self.count + count
        mean = x.mean(axis=(0, 1))
        self.m2 += np.sum((x - mean) ** 2, axis=(0, 1)) + (mean - self.mean) ** 2 * (self.count * count / total)
        self.mean += (mean - self.mean) * (count / total)
        self.count = total
        self.square += np.sum(x * x, axis=(0, 1))
        self.low = np.minimum(self.low, x.min(axis=(0, 1)))
        self.high = np.maximum(self.high, x.max(axis=(0, 1)))

    def _close(self) -> None:
        """The sequences that were being added have ended."""
        if not self.length:
            return
        self.steps = max(self.steps, self.length)
        still = self.until == self.length
        self.unchanging += int(np.sum(still)) if self.length > 1 else 0
        until = np.where(still | (self.until < 2), 0, self.until)
        behind = np.where(still | (self.length - self.start < 2), 0, self.length - self.start)
        self.beginnings.add(self.first, until)
        self.endings.add(self.tail[:, -1], behind)
        for sides, longest in self.longest.items():
            self.longest[sides] = max(longest, int(np.max(self.length - sides[0] * until - sides[1] * behind)))
        for lagged in (self.lagged, self.fine):
            lagged.end(until > 0, behind > 0)
        if self.pairs:
            self.pairs.end(until, behind, self.length)

    def finish(self, notes: tuple[str, ...]) -> InputStatistics:
        """Return the statistics of all that was taken in; ``notes`` go before those of the moments."""
        self._close()
        sides = (self.beginnings, self.endings)
        steps = sum(side.steps for side in sides if side.why(self.sequences, self.count) == "")
        why = "nothing else would be left" if steps == self.count else ""
        before, behind = (side.found(self.sequences, self.count, why) for side in sides)
        padded = [found is not None and found.are_padding for found in (before, behind)]
        parts = [
            (side.value, side.steps) if is_padded else (0.0, 0) for side, is_padded in zip(sides, padded, strict=True)
        ]
        left, mean, m2, square = self.count, self.mean, self.m2, self.square
        for value, steps in parts:
            less = left - steps
            without = (mean * left - steps * value) / less
            m2 = np.maximum(m2 - (value - without) ** 2 * steps * less / left, 0.0)
            left, mean, square = less, without, square - steps * np.square(value)
        names = self.source.names or tuple(map(str, range(self.source.features)))
        ids = self.labels.all_ids(m2 / left) if self.source.may_be_ids else ""
        return InputStatistics(
            shape=(self.sequences, self.steps, self.source.features),
            second_moment=float(np.mean(square / left)),
            correlation=self.pairs.correlation(parts) if self.pairs and self.sequences > 1 else None,
            autocorrelation=self.lagged.correlations(padded),
            spectrum=spectrum(self.fine.correlations(padded), _constant(mean, square / left)),
            beginnings=before,
            endings=behind,
            steps_after_padding=self.longest[padded[0], False],
            steps_without_padding=self.longest[padded[0], padded[1]],
            columns=self._columns(names, mean, m2 / left),
            ids=ids,
            notes=(*notes, *self.source.notes, *self._notes(ids)),
        )

    def _columns(self, names: tuple[str, ...], mean: Array, variance: Array) -> Columns:
        """The features, one by one; a single one is no name or time of others."""
        constant = self.low == self.high
        growing = self.labels.grow() & (len(names) > 1)
        is_table = self.source.names is not None and not self.source.may_be_ids
        ids = self.labels.ids(variance) & ~growing & is_table
        return Columns(names, mean, variance, constant, growing, ids)

    def _notes(self, ids: str) -> Iterator[str]:
        if self.source.may_be_ids and not ids and self.labels.are_classes():
            yield "all numbers are whole: if they are ids or classes that an embedding reads, state --input-variance"
        if self.pairs and self.pairs.stride > 1:
            yield f"sequences were compared at every {self.pairs.stride}th step"
        if self.unchanging:
            still = f"{self.unchanging:,} of {self.sequences:,} sequences"
            yield f"{still} never change; they count as input, not as padding"


def _constant(mean: Array, square: Array) -> float:
    """The share of the power that the columns' means have."""
    power = float(np.sum(square))
    return min(float(np.sum(mean**2)) / power, 1.0) if power else 1.0


class _Pairs:
    """Sums over the sequences at each step, from which the correlation of all pairs of sequences follows."""

    def __init__(self, steps: int, features: int) -> None:
        self.stride = max(1, math.ceil(steps * features / _POSITIONS))
        self.sums = np.zeros((math.ceil(steps / self.stride), features))
        self.powers, self.counts = np.zeros((2, len(self.sums)))
        # sequences whose stretch of equal steps, at the beginning or end, starts at a step, less those where it ends
        self.padded = np.zeros((2, steps + 1))

    def add(self, x: Array, step: int) -> None:
        """Take numbers in."""
        first = -step % self.stride
        chosen = x[:, first :: self.stride]
        at = slice((step + first) // self.stride, (step + first) // self.stride + chosen.shape[1])
        self.counts[at] += len(x)
        self.sums[at] += chosen.sum(axis=0)
        self.powers[at] += np.sum(chosen**2, axis=(0, 2))

    def end(self, until: Steps, behind: Steps, length: int) -> None:
        """Note how many steps may be padding before and behind sequences of one length."""
        for side, (starts, ends) in enumerate(((0 * until, until), (length - behind, length + 0 * behind))):
            np.add.at(self.padded[side], starts, 1.0)
            np.add.at(self.padded[side], ends, -1.0)

    def correlation(self, parts: Sequence[tuple[Array | float, int]]) -> float | None:
        """Return the correlation of different sequences at the same step; None where it is 0 of 0.

        Args:
            parts: The value of the padding at the beginning and at the end, and how many steps it has; 0: none.
        """
        counts, sums, powers = self.counts, self.sums, self.powers
        for (value, steps), changes in zip(parts, self.padded, strict=True):
            padded = np.cumsum(changes)[:-1][:: self.stride] * (steps > 0)
            counts = counts - padded
            sums = sums - padded[:, None] * value
            powers = powers - padded * np.sum(np.square(value))
        pairs = np.sum(sums**2, axis=1) - powers
        norm = float(np.sum(np.maximum(counts - 1.0, 0.0) * powers))
        return float(np.sum(pairs[counts > 1.0])) / norm if norm > 0.0 else None


class _Stretches:
    """The stretches of equal steps with which sequences begin, or with which they end."""

    def __init__(self) -> None:
        self.sequences = self.steps = 0
        self.power, self.same = 0.0, True
        self.value: Array = np.zeros(0)

    def add(self, values: Array, lengths: Steps) -> None:
        """Take in the value of each sequence's stretch, (n, features), and how many steps it has; 0: none."""
        values, lengths = values[lengths > 0], lengths[lengths > 0]
        if len(lengths):
            self.value = self.value if self.sequences else values[0]
            self.same &= bool(np.all(values == self.value))
            self.sequences += len(lengths)
            self.steps += int(np.sum(lengths))
            self.power += float(np.sum(lengths * np.mean(values**2, axis=1)))

    def why(self, sequences: int, steps: int) -> str:
        """Return why the stretches do not count as padding among so many sequences and steps; nothing where they do."""
        if sequences == 1:
            return "one sequence does not tell"
        if not self.same:
            return "it is not one value"
        if self.steps < SHARE * steps or self.steps < RUN * self.sequences:
            return "it is too short to tell"
        return ""

    def found(self, sequences: int, steps: int, why: str) -> ConstantStretches | None:
        """Return what the stretches are; None where there are none.  ``why``: another reason against padding."""
        if self.sequences == 0:
            return None
        why = self.why(sequences, steps) or why
        return ConstantStretches(self.sequences, self.steps / steps, self.power / self.steps, not why, why)


def _unchanged_until(x: Array, step: int, until: Steps, first: Array) -> Steps:
    """How many steps are equal to the first, (n,), once ``x`` is there; ``until``: of the steps before."""
    running = until == step
    if not np.any(running):
        return until
    differs = np.any(x != first[:, None], axis=2)
    here = np.where(differs.any(axis=1), np.argmax(differs, axis=1), x.shape[1])
    return np.asarray(np.where(running, step + here, until), dtype=np.int64)


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
