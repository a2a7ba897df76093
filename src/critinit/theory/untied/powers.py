"""Powers of matrices that leave the range of double precision."""

from __future__ import annotations

import numpy as np

from critinit.dual import Array

__all__ = ["log_power_mean"]


def log_power_mean(matrix: Array, steps: int, start: Array, weights: Array) -> Array:
    """Return ln(weightsᵀ·matrixⁿ·start) for n = ``steps``, by repeated squaring with every scale kept as a logarithm.

    Args:
        matrix: (*batch, size, size), of entries that are not negative, or nearly so.
        steps: n, 0 or more.
        start: (*batch, size).
        weights: (*batch, size) or (size,).

    Returns:
        (*batch,); −∞ where nothing is left.  A power that is far below or above what a number can hold is exact all the
        same, to rounding.

    Example:
        >>> float(log_power_mean(np.array([[0.5]]), 10_000, np.ones(1), np.ones(1)) / np.log(0.5))
        10000.0
    """
    power, scale = _scaled(matrix)
    vector, total = start[..., None].astype(float), np.zeros(matrix.shape[:-2])
    while steps:
        if steps & 1:
            vector = power @ vector
            largest = np.max(np.abs(vector), axis=(-2, -1))
            vector = vector / np.where(largest > 0.0, largest, 1.0)[..., None, None]
            total = total + scale + _log(largest)
        steps >>= 1
        if steps:
            power, own = _scaled(power @ power)
            scale = 2.0 * scale + own
    return np.asarray(total + _log(np.sum(weights * vector[..., 0], axis=-1)))


def _scaled(matrix: Array) -> tuple[Array, Array]:
    """The matrix over its largest entry, and the logarithm of that."""
    largest = np.max(np.abs(matrix), axis=(-2, -1))
    return matrix / np.where(largest > 0.0, largest, 1.0)[..., None, None], _log(largest)


def _log(x: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(x, 0.0))
