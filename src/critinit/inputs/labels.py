"""Which columns are no inputs, although they are numbers: ids of tokens, names of sequences, times and row numbers.

Either kind is known by what neighbours in time have to do with each other.  A time grows at every step.  Of
ids, which are whole numbers, neighbours have nothing to do with each other: with the variance Var x of all numbers

    E[(x(t+1) − x(t))² | x(t+1) ≠ x(t)] / (2 Var x)

is 1 for independent numbers (von Neumann's ratio), and far below 1 for amounts that are followed in time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from critinit.dual import Array

__all__ = ["Labels"]

_DISTINCT = 10
"""Ids from which on whole numbers are taken for ids; fewer are grades, classes or small counts as often."""
_FEW = 3
"""Ids from which on they are beside a column of times, where they are likely to name few sequences."""
_UNRELATED = 0.4
"""Von Neumann's ratio from which on neighbours are unrelated; slow amounts are below .2."""
_GROWS = 0.9
"""Share of steps at which a time grows; the others are the starts of further sequences."""
_STEPS = 5
"""Pairs of neighbours from which on growth is no chance."""
_LOOKED = 2**20
"""Numbers among which distinct ones are counted."""
_FULL = (255.0, 65535.0)
"""Largest numbers of 8 and 16 bits: what reaches them exactly was scaled to them, as images and sound are."""


class Labels:
    """The evidence, added up chunk by chunk.

    Args:
        features: How many columns there are.
    """

    def __init__(self, features: int) -> None:
        self.whole = np.ones(features, dtype=np.bool_)
        self.low, self.high = np.full(features, np.inf), np.full(features, -np.inf)
        self.pairs = 0
        self.rises, self.falls, self.changes = np.zeros((3, features), dtype=np.int64)
        self.squares = np.zeros(features)
        self.distinct: list[set[float]] = [set() for _ in range(features)]
        self.looked = 0
        self.last: Array = np.zeros((0, 0, features))

    def add(self, x: Array, step: int) -> None:
        """Take numbers of shape (sequences, steps, features) in; at step 0 new sequences start."""
        joined = x if step == 0 else np.concatenate([self.last, x], axis=1)
        self.last = x[:, -1:]
        alive = np.flatnonzero(self.whole | self._grow())
        if not len(alive):
            return
        some = joined if len(alive) == joined.shape[2] else joined[..., alive]
        whole = self.whole[alive] & np.all(some == np.rint(some), axis=(0, 1))
        self.whole[alive] = whole
        self.low[alive] = np.minimum(self.low[alive], some.min(axis=(0, 1)))
        self.high[alive] = np.maximum(self.high[alive], some.max(axis=(0, 1)))
        change = np.diff(some, axis=1)
        self.pairs += change.shape[0] * change.shape[1]
        self.rises[alive] += np.sum(change > 0, axis=(0, 1))
        self.falls[alive] += np.sum(change < 0, axis=(0, 1))
        self.squares[alive] += np.sum(change**2, axis=(0, 1))
        if self.looked < _LOOKED:
            self.looked += some.size
            for n in np.flatnonzero(whole):
                if len(seen := self.distinct[alive[n]]) < _DISTINCT:
                    seen.update(np.unique(some[..., n])[: 2 * _DISTINCT].tolist())

    def _grow(self) -> NDArray[np.bool_]:
        """Which columns may be times: those that hardly ever fall."""
        return np.asarray(self.falls <= (1.0 - _GROWS) * self.pairs)

    def grow(self) -> NDArray[np.bool_]:
        """Return which columns grow at every step or almost every one, or never fall and are whole numbers."""
        enough = self.pairs >= _STEPS
        steady = self.rises >= _GROWS * self.pairs
        climbs = self.whole & (self.falls == 0) & (self.rises > 1)
        return np.asarray(enough & (steady | climbs) & (self.high > self.low))

    def ids(self, variance: Array) -> NDArray[np.bool_]:
        """Return which columns look like ids by themselves; ``variance``: of the columns."""
        least = _FEW if np.any(self.grow()) else _DISTINCT
        several = np.array([len(seen) >= least for seen in self.distinct])
        changes = self.rises + self.falls
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(changes > 0, self.squares / np.maximum(changes, 1) / (2.0 * variance), 1.0)
        return np.asarray(self._may_be_ids() & several & (ratio > _UNRELATED))

    def all_ids(self, variance: Array) -> str:
        """Return in words what the numbers are where all columns together look like ids; else nothing."""
        if not np.all(self._may_be_ids()) or len(set().union(*self.distinct)) < _DISTINCT:
            return ""
        if self.high.max() in _FULL:
            return ""
        changes = self.rises + self.falls
        norm = 2.0 * float(np.sum(changes * variance))
        if norm > 0.0 and float(np.sum(self.squares)) < _UNRELATED * norm:
            return ""
        return f"whole numbers from {self.low.min():,.0f} to {self.high.max():,.0f} without order"

    def are_classes(self) -> bool:
        """Return whether all numbers are a few whole ones, more than two: classes, or small counts."""
        return bool(np.all(self._may_be_ids() & ~self.grow())) and len(set().union(*self.distinct)) > 2

    def _may_be_ids(self) -> NDArray[np.bool_]:
        """Which columns hold whole numbers that can be ids; −1 may be that of the padding."""
        return np.asarray(self.whole & (self.low >= -1.0))
