"""The correlation of inputs with those some steps before, over the pairs of steps of which none is padding.

Which steps are padding is known at the end of the data alone.  So the sums over pairs are taken four times: of all
pairs, without those whose earlier step is in the equal steps at a sequence's beginning, without those whose later one
is in the equal steps at its end, and without both.  Nothing is subtracted: where equal steps turn out not to be a
beginning or an ending, the sums without them become those with them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from critinit.dual import Array

__all__ = ["Lagged"]

Steps = NDArray[np.int64]


_FEW = 8
"""Lags that are taken one by one; more are by Fourier transforms, which give all at once."""
_SHORT = 64
"""New steps below which they are one by one too: transforms take the old steps again and again."""
_FACTORS = (1, 3, 5, 9, 15)
"""Times a power of 2: lengths of quick transforms, at most an eighth longer than needed."""


class Lagged:
    """Sums of products and of squares over the pairs of steps that are one of some lags, ascending, apart.

    The axes of the sums are: whether beginnings are left out; whether endings are; products, or halves of the squares;
    lag.
    """

    def __init__(self, lags: Sequence[int]) -> None:
        self.lags = np.array(lags, dtype=np.int64)
        self.sums = np.zeros((2, 2, 2, len(lags)))
        self.open = np.zeros((*self.sums.shape, 0))  # of each of the sequences that are being added

    @property
    def longest(self) -> int:
        """The longest lag."""
        return int(self.lags[-1])

    def begin(self, sequences: int) -> None:
        """So many sequences start."""
        self.open = np.zeros((*self.sums.shape, sequences))

    def add(self, joined: Array, old: int, step: int, until: Steps, start: Steps) -> None:
        """Take in the pairs that end in a new step.

        Args:
            joined: The old steps, as many as the longest lag has where there are, and the new ones, (n, old + new, F).
            old: How many are old.
            step: The number of the first new step.
            until: How many steps of each sequence are equal to its first, with the new ones, (n,).
            start: At which step the equal steps start that end with the last new one, (n,).
        """
        _replace(self.open[:, 1], self.open[:, 0], start >= step)  # steps that were the last are so no more
        steps = joined.shape[1]
        lags = self.lags[self.lags < steps]
        if not len(lags):
            return
        begun, ending = (np.clip(at - (step - old), 0, steps)[:, None] for at in (until, start))
        here = np.arange(steps)
        power = np.einsum("ntf,ntf->nt", joined, joined)
        summed = np.concatenate([np.zeros((len(joined), 1)), np.cumsum(power, axis=1)], axis=1)
        later, alike = joined.copy(), np.flatnonzero(until > 1)
        later[:, :old] = 0.0
        for behind in range(2):
            if behind:
                later[here >= ending] = 0.0
            last = np.broadcast_to(ending if behind else np.array([steps]), (len(joined), len(lags)))
            products = np.stack([_products(later, joined, old, lags)] * 2)
            if len(alike):
                earlier = joined[alike]
                earlier[here < begun[alike]] = 0.0
                products[1, alike] = _products(later[alike], earlier, old, lags)
            for before in range(2):
                first = np.minimum(np.maximum(old, lags + begun * before), last)
                squares = _between(summed, first, last) + _between(summed, first - lags, last - lags)
                self.open[before, behind, 0, : len(lags)] += products[before].T
                self.open[before, behind, 1, : len(lags)] += 0.5 * squares.T

    def end(self, has_beginning: NDArray[np.bool_], has_ending: NDArray[np.bool_]) -> None:
        """The sequences end; what is no beginning or no ending of one is as any other of its steps."""
        _replace(self.open[1], self.open[0], ~has_beginning)
        _replace(self.open[:, 1], self.open[:, 0], ~has_ending)
        self.sums += self.open.sum(axis=-1)

    def correlations(self, padded: Sequence[bool]) -> dict[int, float]:
        """Return the correlation at each lag at which there is one.

        Args:
            padded: Whether the beginnings, and whether the endings, are padding.
        """
        before, behind = map(int, padded)
        kept = zip(self.lags.tolist(), *self.sums[before, behind], strict=True)
        return {lag: float(p / q) for lag, p, q in kept if q > 0}


def _products(later: Array, earlier: Array, old: int, lags: Steps) -> Array:
    """Σ_t later(t)·earlier(t − lag) of each sequence, (n, lags); the first ``old`` of the later steps are 0."""
    steps = later.shape[1]
    if len(lags) <= _FEW or steps - old < _SHORT:
        found = np.empty((len(later), len(lags)))
        for k, lag in enumerate(lags.tolist()):
            first = max(old, lag)
            found[:, k] = np.einsum("ntf,ntf->n", later[:, first:], earlier[:, first - lag : steps - lag])
        return found
    need = steps + int(lags[-1])
    size = min(factor << max(0, math.ceil(math.log2(need / factor))) for factor in _FACTORS)
    transforms = (np.fft.rfft(x, size, axis=1) for x in (later, earlier))
    product = np.einsum("nwf,nwf->nw", next(transforms), np.conj(next(transforms)))
    return np.asarray(np.fft.irfft(product, size, axis=1)[:, lags])


def _between(summed: Array, first: Steps, last: Steps) -> Array:
    """The sums over the steps from ``first`` to before ``last``, (n, lags), by the sums up to each step."""
    first, last = (np.maximum(at, 0) for at in (first, last))
    return np.take_along_axis(summed, last, axis=1) - np.take_along_axis(summed, first, axis=1)


def _replace(target: Array, source: Array, where: NDArray[np.bool_]) -> None:
    """Take the sums of the sequences of which that is said from another part."""
    if np.any(where):
        target[..., where] = source[..., where]
