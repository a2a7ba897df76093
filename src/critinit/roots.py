"""Where a function of one number crosses 0.

SciPy has such searches too; importing ``scipy.optimize`` for them takes a fifth of a second, which is a third of what a
short command takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["crossing", "excess_over_one", "falling_root"]

_DOUBLINGS = 60
"""Steps of doubled length in the search for an upper end: the last is 10¹⁸ times the first."""
_ITERATIONS = 200
"""Of a search, which needs ten or so, and 60 where the function jumps across 0."""
_ROUNDING = 1e-15
"""Relative accuracy of a root, whatever is asked for."""

Point = tuple[float, float]
"""A number and the function there."""


def crossing(function: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    """Return where a function crosses 0 between two points, by Chandrupatla's method.

    Inverse quadratic interpolation where three points look like such a curve, else bisection; see Chandrupatla, A new
    hybrid quadratic/bisection algorithm (1997).

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
    return _between(function, (low, function(low)), (high, function(high)), tolerance)


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
    before = low, function(low)
    if not before[1] > 0.0:
        return low
    for _ in range(_DOUBLINGS):
        high = before[0] + step
        after = high, function(high)
        if after[1] <= 0.0:
            return _between(function, before, after, tolerance)
        before, step = after, 2.0 * step
    return math.inf


def excess_over_one(radius: float) -> float:
    """Return (r − 1)/(r + 1) of a spectral radius r ≥ 0: it crosses 0 where r crosses 1, and is finite where r is not.

    Example:
        >>> excess_over_one(3.0), excess_over_one(float("inf"))
        (0.5, 1.0)
    """
    return 1.0 if math.isinf(radius) else (radius - 1.0) / (radius + 1.0)


def _between(function: Callable[[float], float], one: Point, other: Point, tolerance: float) -> float:
    """The crossing between two points whose values are known."""
    (a, at_a), (b, at_b) = one, other
    if not (at_a <= 0.0 <= at_b or at_b <= 0.0 <= at_a):
        raise ValueError(f"no crossing between {a:g} (where the function is {at_a:g}) and {b:g} ({at_b:g})")
    share = 0.5
    for _ in range(_ITERATIONS):
        best, at_best = (a, at_a) if abs(at_a) < abs(at_b) else (b, at_b)
        least = (0.5 * tolerance + _ROUNDING * abs(best)) / abs(b - a) if b != a else 1.0
        if at_best == 0.0 or least > 0.5:
            return best
        x = a + min(max(share, least), 1.0 - least) * (b - a)
        at_x = function(x)
        if math.isnan(at_x):
            raise ValueError(f"the function has no number at {x:g}")
        if (at_x > 0.0) == (at_a > 0.0):
            c, at_c = a, at_a
        else:
            c, at_c, b, at_b = b, at_b, a, at_a
        a, at_a = x, at_x
        share = _share(a, b, c, at_a, at_b, at_c)
    return best


def _share(a: float, b: float, c: float, at_a: float, at_b: float, at_c: float) -> float:
    """Where between a and b to look next: by the inverse parabola through all three, or in the middle."""
    if at_c in (at_a, at_b) or math.isinf(at_b) or math.isinf(at_c):
        return 0.5
    x, y = (a - b) / (c - b), (at_a - at_b) / (at_c - at_b)
    if not (y * y < x and (1.0 - y) ** 2 < 1.0 - x):
        return 0.5
    by_b = at_a / (at_b - at_a) * at_c / (at_b - at_c)
    return by_b + (c - a) / (b - a) * at_a / (at_c - at_a) * at_b / (at_c - at_b)
