"""Whether numbers follow a law: the tests of one gate's part.

An ``Outcome`` is *exact* where the law leaves no freedom (p is 0 or 1, and no chance is involved), otherwise its p is the
probability that weights which do follow the law look at least this odd.  Every p is exact or too large, never too
small, so that a threshold on p is a bound on false alarms.  With n entries x, s² = v/fan_in, g = √v:

    normal       mean          Σx/(s√n) ~ N(0, 1)
                 variance      Σx²/s² ~ χ²(n)
                 shape         Kolmogorov–Smirnov of the entries on N(0, s²)
                 rows          Kolmogorov–Smirnov of the rows' Σx²/s² on χ²(fan_in): an orthogonal matrix has the
                               right entries, but all its rows are of one length
    uniform      range         exact
                 mean          Σx ~ normal (the true tails are thinner)
                 variance      Σx² ~ gamma of the same three moments (the true tails are thinner)
                 shape         as above
    orthogonal   W Wᵀ = g²·I   exact, to rounding
                 mean          (aᵀWb)²/g² ~ Beta(½, (F−1)/2) for unit vectors a, b; here all entries alike
                 largest       P(max x²/g² > m) ≤ n·P(Beta(½, (F−1)/2) > m): no identity, permutation or block
    identity, zero             exact, to rounding
    constant, coupled bias     exact, to rounding
    normal bias                mean, variance and shape as above, with its own mean
    spread bias                range, exact; Kolmogorov–Smirnov on the law

Two-sided probabilities are twice the smaller side.  The Kolmogorov–Smirnov tests use twice the exact one-sided law.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from critinit.sampling import Draw
from critinit.spec import Bias, ConstantBias, CoupledBias, Kernel, NormalBias
from critinit.spec.distributions import quantile_of_bias

__all__ = ["Observed", "Outcome", "orthogonality_error", "outcomes_of"]

Array = NDArray[np.float64]

SAMPLE = 2**16
"""Shapes are tested on at most this many evenly spaced entries, so that rounding to 16 bits stays out of sight."""

ROWS = 512
"""W Wᵀ is formed for at most this many evenly spaced rows; Σx² and the largest entry see all."""


class Outcome(NamedTuple):
    """One test: what was looked at, and how probable it is under the law asked for."""

    name: str
    p: float
    exact: bool = False


class Observed(NamedTuple):
    """The canonical numbers of one part, as read.

    ``roundoff``: largest relative error of a stored number.  ``scale``: magnitude of what was stored, where signs,
    offsets and second vectors have been undone; their difference can be off by roundoff·scale.
    """

    values: Array
    roundoff: float
    scale: float

    @property
    def rounding(self) -> float:
        """How far an entry may be off by rounding, with room to spare."""
        return 4.0 * self.roundoff * max(self.scale, float(np.abs(self.values).max(initial=0.0)))


def outcomes_of(draw: Draw, observed: Observed, reference: Observed | None = None) -> tuple[Outcome, ...]:
    """The tests of what ``draw`` asks for.

    ``reference``: for a coupled bias, the bias of the gate that it follows.
    """
    x = observed.values
    if not np.isfinite(x).all():
        return (Outcome("finite", 0.0, exact=True),)
    if draw.problem() is not None:
        return (Outcome("shape", 0.0, exact=True),)
    if draw.coupled_to is not None and reference is not None:
        slack = observed.rounding + reference.rounding
        return (_exact("unit by unit", np.abs(x - draw.sign * reference.values).max() <= slack),)
    if isinstance(draw.law, Kernel):
        return _kernel(draw.law, x, observed)
    return _bias(draw.law, draw.sign * x, observed)


def _kernel(law: Kernel, x: Array, observed: Observed) -> tuple[Outcome, ...]:
    if law.variance == 0:
        return (_exact("all zero", not x.any()),)
    scale = math.sqrt(law.variance)
    match law.distribution:
        case "identity":
            slack = 4.0 * observed.roundoff * scale
            return (_exact("identity", np.abs(x - scale * np.eye(*x.shape)).max() <= slack),)
        case "orthogonal":
            return _orthogonal(x / scale, observed.roundoff)
        case "uniform":
            return _uniform(x / (math.sqrt(3.0 / x.shape[1]) * scale), observed)
        case _:
            unit = x * (math.sqrt(x.shape[1]) / scale)
            rows = [_rows(unit)] if min(x.shape) > 1 else []
            return (*_normal(unit.ravel()), *rows)


def _bias(law: Bias, b: Array, observed: Observed) -> tuple[Outcome, ...]:
    if isinstance(law, CoupledBias):  # resolved by ``draws_of``
        raise TypeError("a coupled bias is tested as the bias that it follows")
    mean, variance = float(law.mean or 0.0), float(law.variance or 0.0)
    if isinstance(law, ConstantBias) or (isinstance(law, NormalBias) and variance == 0):
        slack = observed.rounding + 4.0 * observed.roundoff * abs(mean)
        return (_exact("constant", np.abs(b - mean).max() <= slack),)
    if isinstance(law, NormalBias):
        return _normal((b - mean) / math.sqrt(variance))
    low, high = math.log(law.min_time - 1.0), math.log(law.max_time - 1.0)
    slack = observed.rounding + 4.0 * observed.roundoff * max(abs(low), abs(high))
    inside = _exact("range", low - slack <= b.min() and b.max() <= high + slack)
    if law.min_time == law.max_time:
        return (inside,)
    return inside, Outcome("shape", _ks(quantile_of_bias(law.distribution, law.min_time, law.max_time, b)))


# ---- laws ------------------------------------------------------------------------------------------------


def _normal(x: Array) -> tuple[Outcome, ...]:
    """Entries that should be independent N(0, 1)."""
    from scipy.special import ndtr

    n = x.size
    mean = 2.0 * float(ndtr(-abs(x.sum()) / math.sqrt(n)))
    return Outcome("mean", mean), Outcome("variance", _chi2(float(x @ x), n)), Outcome("shape", _ks(ndtr(_sample(x))))


def _rows(x: Array) -> Outcome:
    """Rows whose squared lengths should be independent χ²(fan_in)."""
    from scipy.special import chdtr

    return Outcome("rows", _ks(chdtr(x.shape[1], np.einsum("ij,ij->i", x, x))))


def _uniform(x: Array, observed: Observed) -> tuple[Outcome, ...]:
    """Entries that should be independent and uniform on [−1, 1].

    y = x² has mean 1/3, variance 4/45 and third central moment 16/945.
    """
    from scipy.special import gdtr, gdtrc, ndtr

    x = x.ravel()
    n = x.size
    inside = _exact("range", np.abs(x).max() <= 1.0 + 4.0 * observed.roundoff)
    mean = 2.0 * float(ndtr(-abs(x.sum()) * math.sqrt(3.0 / n)))
    skew = (16.0 / 945.0) / (4.0 / 45.0) ** 1.5 / math.sqrt(n)
    shape = 4.0 / skew**2
    # shifted gamma: mean 0, variance 1 and this skewness
    z = max((float(x @ x) - n / 3.0) / math.sqrt(n * 4.0 / 45.0), -2.0 / skew)
    at = shape + z * math.sqrt(shape)
    variance = _two_sided(float(gdtr(1.0, shape, at)), float(gdtrc(1.0, shape, at)))
    shaped = _ks(np.clip(0.5 * (_sample(x) + 1.0), 0.0, 1.0))
    return inside, Outcome("mean", mean), Outcome("variance", variance), Outcome("shape", shaped)


def _orthogonal(x: Array, roundoff: float) -> tuple[Outcome, ...]:
    """Rows that should be orthonormal and Haar-distributed; F = number of columns."""
    rows, columns = x.shape
    # QR in single precision, as frameworks do it, and what the stored type loses
    slack = 4.0 * roundoff + 64.0 * 2.0**-24 * math.sqrt(columns)
    lengths = np.abs(np.einsum("ij,ij->i", x, x) - 1.0).max()
    gram = _exact("orthogonal", max(lengths, orthogonality_error(x)) <= slack)
    if columns < 2:
        return (gram,)
    # rounding must not make an entry look larger than it was drawn
    mean = _beyond(float(x.sum()) ** 2 / (rows * columns) - 2.0 * slack, columns)
    largest = min(1.0, x.size * _beyond(float(np.abs(x).max()) ** 2 - 2.0 * slack, columns))
    return gram, Outcome("mean", mean), Outcome("largest entry", largest)


def orthogonality_error(x: Array) -> float:
    """max |x xᵀ − I| over at most ``ROWS`` evenly spaced rows."""
    rows = np.unique(np.linspace(0, len(x) - 1, min(len(x), ROWS)).round().astype(int))
    gram = x[rows] @ x[rows].T
    gram[np.diag_indices(len(rows))] -= 1.0
    return float(np.abs(gram).max())


# ---- probabilities ---------------------------------------------------------------------------------------


def _exact(name: str, holds: bool | np.bool_) -> Outcome:
    return Outcome(name, float(holds), exact=True)


def _two_sided(below: float, above: float) -> float:
    return min(1.0, 2.0 * min(below, above))


def _chi2(value: float, n: int) -> float:
    from scipy.special import chdtr, chdtrc

    return _two_sided(float(chdtr(n, value)), float(chdtrc(n, value)))


def _beyond(square: float, columns: int) -> float:
    """P(u₁² > square) for a random unit vector u of that many coordinates."""
    from scipy.special import betainc

    return float(betainc((columns - 1) / 2.0, 0.5, min(1.0, max(0.0, 1.0 - square))))


def _sample(x: Array) -> Array:
    return x if x.size <= SAMPLE else x[np.linspace(0, x.size - 1, SAMPLE).astype(int)]


def _ks(q: Array) -> float:
    """The Kolmogorov–Smirnov test of values that should be uniform on [0, 1]."""
    from scipy.special import smirnov

    q, n = np.sort(q), q.size
    steps = np.arange(n + 1) / n
    distance = max(float((steps[1:] - q).max()), float((q - steps[:-1]).max()))
    return min(1.0, 2.0 * float(smirnov(n, distance)))
