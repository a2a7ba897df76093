"""Where a function of one number crosses 0, by Brent's method (SciPy's)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

__all__ = ["crossing", "excess_over_one", "falling_root"]

_DOUBLINGS = 60
"""Steps of doubled length in the search for an upper end: the last is 10¹⁸ times the first."""
_ITERATIONS = 200
"""Of Brent's method, which needs ten or so, and 60 where the function jumps across 0."""
_ROUNDING = 1e-15
"""Relative accuracy of a root, whatever is asked for."""


def crossing(function: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    """Return where a function crosses 0 between two points.

    Args:
        function: The function; it may jump across 0.
        low: One point.
        high: Another, where the function has the other sign, or 0.
        tolerance: Wanted absolute accuracy.

    Raises:
        ValueError: The function has one sign at both points, or no number somewhere.

    Example:
        >>> round(crossing(lambda x: x * x - 2.0, 0.0, 2.0, 1e-12), 9)
        1.414213562
    """
    from scipy.optimize import brentq  # not at the top: commands that solve for nothing need not load it

    return float(brentq(function, low, high, xtol=tolerance, rtol=_ROUNDING, maxiter=_ITERATIONS))


def falling_root(function: Callable[[float], float], low: float, step: float, tolerance: float) -> float:
    """Return where a decreasing function falls to 0, sought from ``low`` upwards.

    Args:
        function: A decreasing function; it may jump across 0.
        low: Where the search begins.
        step: Length of its first step; each further one is twice as long.
        tolerance: Wanted absolute accuracy.

    Returns:
        The root; ``low`` itself where the function is not above 0 there, and infinity where no root is found.

    Example:
        >>> round(falling_root(lambda x: 2.0 - x * x, 0.0, 0.5, 1e-12), 9)
        1.414213562
    """
    known = cache(function)
    if not known(low) > 0.0:
        return low
    for _ in range(_DOUBLINGS):
        high = low + step
        if known(high) <= 0.0:
            return crossing(known, low, high, tolerance)
        low, step = high, 2.0 * step
    return math.inf


def excess_over_one(radius: float) -> float:
    """Return (r − 1)/(r + 1) of a spectral radius r ≥ 0: it crosses 0 where r crosses 1, and is finite where r is not.

    Example:
        >>> excess_over_one(3.0), excess_over_one(float("inf"))
        (0.5, 1.0)
    """
    return 1.0 if math.isinf(radius) else (radius - 1.0) / (radius + 1.0)
