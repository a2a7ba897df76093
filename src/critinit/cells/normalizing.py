"""The layer normalization of cells that are ``normalized``."""

from __future__ import annotations

from typing import Any

import numpy as np

from critinit.dual import Array, Dual, value

__all__ = ["normalized"]


def normalized(x: Any) -> tuple[Any, Array]:
    """Return (x − mean)/deviation over the units, the last axis, and 1/deviation; 0 where all units are alike.

    Args:
        x: An array of shape (…, units), or a ``Dual`` of it.

    Example:
        >>> normalized(np.array([1.0, 3.0]))[0].tolist()
        [-1.0, 1.0]
    """

    def centred(y: Array) -> Array:
        return np.asarray(y - y.mean(axis=-1, keepdims=True))

    values = centred(value(x))
    deviation = np.sqrt(np.mean(values**2, axis=-1, keepdims=True))
    rate = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0.0)
    y = values * rate
    if not isinstance(x, Dual):
        return y, rate
    tangents = centred(x.tangent)
    return Dual(y, rate * (tangents - y * np.mean(y * tangents, axis=-1, keepdims=True))), rate
