"""Averages over Gaussians.

Two rules for z ~ N(0, 1), whichever needs fewer nodes for f(μ + σz) with f analytic in the strip |Im u| < d:

    Gauss–Hermite          error ≈ exp(−d√(2n)/σ): best for narrow points
    trapezoidal, |z| ≤ 8.2  error ≈ exp(−2πp/h + p²/2), p = d/σ, h the step (tail mass 2e-16): best for wide ones

The logistic function and all that is made of it has d = π; tanh has d = π/2.

Where a slope or a curvature jumps a function is not analytic: ``broken_rule`` takes the pieces between one by one.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from critinit.dual import Array

__all__ = ["LOGISTIC_STRIP", "TANH_STRIP", "Rule", "broken_rule", "normal_rule", "rule_for"]

TANH_STRIP = math.pi / 2
"""Half-width of the strip in which tanh is analytic."""
LOGISTIC_STRIP = math.pi
"""Half-width of the strip in which the logistic function is analytic."""

Rule = tuple[Array, Array]
"""Nodes and weights; the weights sum to 1."""

_LOG_TARGET = math.log(1e15)
"""ln of the inverse error that the formulas above are solved for; what they leave out makes it 1e-11."""
_CUT = 8.2
"""Standard deviations at which the trapezoidal rule ends: the tail mass beyond is 2e-16."""
_MAX_TRAPEZOIDAL = 801
"""Nodes, enough for σ ≈ 15: beyond it a gate is a step, resolved to the spacing of the nodes."""
_MAX_HERMITE = 100
"""Nodes, beyond which the weights of the Gauss–Hermite rule underflow."""
_PIECE = 96
"""Gauss–Legendre nodes between two breaks: 1e-13 for polynomials, and for gates and tanh of deviations up to 15."""
_SPARE_NODES = 4
"""Gauss–Hermite nodes beyond those of the formula, which holds for many nodes."""


def rule_for(largest_deviation: float, strip: float = TANH_STRIP, order: float = 1.0) -> Rule:
    """Return nodes z and weights for averages of f(μ + σz), to about 1e-11 of the function's scale.

    Args:
        largest_deviation: The largest σ.
        strip: Half-width of the strip in which f is analytic.
        order: Scales the logarithm of the wanted error (2 squares it); tests compare an order with a higher one.

    Returns:
        Read-only arrays (nodes,).  Valid to that accuracy for deviations up to 15; beyond, the number of nodes is held
        and the error grows as σ/1000.

    Example:
        >>> z, weights = rule_for(0.5)
        >>> abs(float(weights @ (0.5 * z) ** 2) - 0.25) < 1e-12
        True
    """
    if not largest_deviation > 0.0:
        return normal_rule("hermite", 1)
    digits = _LOG_TARGET * order
    hermite = math.ceil(min(0.5 * (digits * largest_deviation / strip) ** 2, 1e9)) + _SPARE_NODES
    widest = math.sqrt(2.0 * digits)  # beyond it the Gaussian alone limits the step
    pole = strip / largest_deviation if largest_deviation * widest > strip else widest
    step = 2.0 * math.pi * pole / (digits + 0.5 * pole**2)
    trapezoidal = min(2 * math.ceil(_CUT / step) + 1, int(_MAX_TRAPEZOIDAL * min(order, 1.0)) | 1)
    if hermite <= min(trapezoidal, _MAX_HERMITE):
        return normal_rule("hermite", hermite)
    return normal_rule("trapezoidal", trapezoidal)


@lru_cache(maxsize=128)
def normal_rule(kind: str, nodes: int) -> Rule:
    """Return the ``hermite`` or ``trapezoidal`` rule for N(0, 1) with that many nodes; one node means z = 0."""
    if nodes == 1:
        z, w = np.zeros(1), np.ones(1)
    elif kind == "hermite":
        z, w = np.polynomial.hermite_e.hermegauss(nodes)
    else:
        z = np.linspace(-_CUT, _CUT, nodes)
        w = np.exp(-0.5 * z * z)
    w = w / w.sum()
    z.setflags(write=False)
    w.setflags(write=False)
    return z, w


def broken_rule(mean: Array, deviation: Array, breaks: tuple[float, ...]) -> Rule:
    """Return nodes z and weights for averages of f(μ + σz) where f is smooth between breaks, to about 1e-11.

    Args:
        mean: μ, any shape.
        deviation: σ, of a shape that broadcasts with it.
        breaks: Where its slope or curvature jumps.  The pieces end there and at 0, where gates and tanh change fastest.

    Returns:
        Arrays (*shape, nodes): the breaks are elsewhere for every μ and σ, and so are the nodes.

    Example:
        >>> z, weights = broken_rule(np.array(0.0), np.array(2.0), (0.0,))
        >>> abs(float(weights @ np.maximum(2.0 * z, 0.0) ** 2) - 2.0) < 1e-12
        True
    """
    x, w = _legendre(_PIECE)
    shape = np.broadcast_shapes(mean.shape, deviation.shape)
    ends = [np.full(shape, -_CUT)]
    for place in sorted({0.0, *breaks}):
        away = np.broadcast_to(place - mean, shape)
        at = np.divide(away, deviation, out=np.full(shape, _CUT), where=np.broadcast_to(deviation > 0.0, shape))
        ends.append(np.clip(at, -_CUT, _CUT))
    ends.append(np.full(shape, _CUT))
    edges = np.stack(ends, axis=-1)
    half = 0.5 * np.diff(edges, axis=-1)[..., None]
    z = (edges[..., :-1, None] + half * (1.0 + x)).reshape(*shape, -1)
    weights = (half * w).reshape(*shape, -1) * np.exp(-0.5 * z * z)
    return z, weights / weights.sum(axis=-1, keepdims=True)


@lru_cache(maxsize=1)
def _legendre(nodes: int) -> Rule:
    return np.polynomial.legendre.leggauss(nodes)
