"""The correlation of inputs with those some steps before, over the pairs of steps of which none is padding.

Which steps are padding is known at the end of the data alone.  So the sums over pairs are kept apart by whether the
earlier step is in the equal steps at a sequence's beginning, and whether the later one is in those at its end.  At the
end the parts that are no padding are added; nothing is subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from critinit.dual import Array

__all__ = ["Lagged"]

Steps = NDArray[np.int64]


class Lagged:
    """Sums of products and of squares over the pairs of steps that are one of some lags, ascending, apart.

    The axes of the sums are: lag; products, or halves of the squares; whether the pair starts in the beginning; whether
    it ends in the ending.
    """

    def __init__(self, lags: Sequence[int]) -> None:
        self.lags = lags
        self.sums = np.zeros((len(lags), 2, 2, 2))
        self.open = np.zeros((*self.sums.shape, 0))  # of each of the sequences that are being added

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
        _pour(self.open[..., 1, :], self.open[..., 0, :], start >= step)  # steps that were the last are so no more
        powers = np.einsum("ntf,ntf->nt", joined, joined)
        for k, lag in enumerate(self.lags):
            first = max(old, lag)
            count = joined.shape[1] - first
            if count <= 0:  # nor has a longer lag any
                break
            products = np.einsum("ntf,ntf->nt", joined[:, first:], joined[:, first - lag :][:, :count])
            squares = 0.5 * (powers[:, first:] + powers[:, first - lag :][:, :count])
            at = step - old + first  # the number of the first later step
            begun, ending = np.clip(until + lag - at, 0, count), np.clip(start - at, 0, count)
            bounds = np.stack([np.minimum(begun, ending), np.maximum(begun, ending)], axis=1)
            for sums, values in zip(self.open[k], (products, squares), strict=True):
                low, between, high = _parts(values, bounds)
                sums[1, 0] += low
                sums[0, 0] += np.where(begun < ending, between, 0.0)
                sums[1, 1] += np.where(begun < ending, 0.0, between)
                sums[0, 1] += high

    def end(self, has_beginning: NDArray[np.bool_], has_ending: NDArray[np.bool_]) -> None:
        """The sequences end; what is no beginning or no ending of one is as any other of its steps."""
        _pour(self.open[:, :, 1], self.open[:, :, 0], ~has_beginning)
        _pour(self.open[..., 1, :], self.open[..., 0, :], ~has_ending)
        self.sums += self.open.sum(axis=-1)

    def correlations(self, padded: Sequence[bool]) -> dict[int, float]:
        """Return the correlation at each lag at which there is one.

        Args:
            padded: Whether the beginnings, and whether the endings, are padding.
        """
        before, behind = (slice(1 if is_padding else 2) for is_padding in padded)
        kept = self.sums[:, :, before, behind].sum(axis=(2, 3))
        return {lag: float(p / q) for lag, (p, q) in zip(self.lags, kept, strict=True) if q > 0}


def _parts(values: Array, bounds: Steps) -> tuple[Array, Array, Array]:
    """The sums over the steps of each sequence before two bounds, between them, and from the second on, (n,) each."""
    sums = np.cumsum(values, axis=1)
    low, high = np.where(bounds > 0, np.take_along_axis(sums, np.maximum(bounds - 1, 0), axis=1), 0.0).T
    return low, high - low, sums[:, -1] - high


def _pour(source: Array, target: Array, where: NDArray[np.bool_]) -> None:
    """Move what is in one part of the sums to another, of the sequences of which that is said."""
    target += source * where
    source *= ~where
