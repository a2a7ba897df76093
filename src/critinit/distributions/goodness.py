"""Goodness-of-fit tests: whether numbers follow a distribution.

An ``Outcome`` is *exact* where the distribution leaves no freedom: p is 0 or 1, and no chance is involved.  Otherwise
its p is the probability that numbers which do follow the distribution look at least this odd.  Every p is exact or too
large, never too small, so that a threshold on p is a bound on false alarms.  With n entries x, s² = v/fan-in, g = √v:

    normal       mean          Σx/(s√n) ~ N(0, 1)
                 variance      Σx²/s² ~ χ²(n)
                 shape         Kolmogorov–Smirnov of the entries on N(0, s²)
                 rows          Kolmogorov–Smirnov of the rows' Σx²/s² on χ²(fan-in): an orthogonal matrix has the
                               right entries, but all its rows are of one length
    uniform      range         exact
                 mean          Σx ~ normal (the true tails are thinner)
                 variance      Σx² ~ gamma of the same three moments (the true tails are thinner)
                 shape         as above
    truncated    range, mean, variance and shape as of uniform entries, with their own moments
      normal
    orthogonal   W Wᵀ = g²·I   exact, to rounding
                 mean          (aᵀWb)²/g² ~ Beta(½, (F−1)/2) for unit vectors a, b; here all entries alike
                 largest       P(max x²/g² > m) ≤ n·P(Beta(½, (F−1)/2) > m): no identity, permutation or block
    spectral     radius        exact, to what rounding does to the largest eigenvalues
      radius     density       number of entries ~ Binomial(n, density)
                 signs         number of positive ones ~ Binomial(entries, ½)
    identity, zero             exact, to rounding
    constant, coupled bias     exact, to rounding
    normal bias                mean, variance and shape as above, with its own mean
    spread bias                range, exact; Kolmogorov–Smirnov on the distribution

Two-sided probabilities are twice the smaller side.  The Kolmogorov–Smirnov tests use twice the exact one-sided
probability.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "COMPARED",
    "Observed",
    "Outcome",
    "all_zero",
    "binomial",
    "constant",
    "exact",
    "haar_rows",
    "haar_trace",
    "kolmogorov_smirnov",
    "orthogonality_error",
    "rows",
    "spectral_radius",
    "standard_normal",
    "thinned",
    "truncated_standard_normal",
    "unit_uniform",
]

Array = NDArray[np.float64]

_DEVIATIONS = 8.0
"""By how many standard deviations of their rounding errors eigenvalues may be off.  For a normal error five would do;
the first-order estimate of the deviation leaves something out."""

_SOLVER = 16.0 * 2.0**-24
"""Relative error of the entries that counts as much as an eigenvalue solver's own in single precision, as frameworks
have it: a few roundings for each of many steps."""

_SAMPLE = 2**16
"""Shapes are tested on at most this many evenly spaced entries, so that rounding to 16 bits stays out of sight."""

_ROWS = 512
"""W Wᵀ is formed for at most this many evenly spaced rows; Σx² and the largest entry see all."""


COMPARED = {
    "mean": "the mean of the numbers with that of the distribution",
    "variance": "the variance of the numbers with that of the distribution",
    "shape": "how many numbers lie below any bound with what the distribution says (Kolmogorov-Smirnov)",
    "rows": "the lengths of the rows with those that independent entries make",
    "range": "the smallest and largest number with the ends of the distribution",
    "orthogonal": "W Wᵀ with gain²·I",
    "largest entry": "the largest entry with that of a random orthogonal matrix",
    "trace": "the trace with that of a random orthogonal matrix",
    "rotation": "every entry with that of the rotations",
    "spectral radius": "the largest absolute eigenvalue with the one that is asked for",
    "density": "how many entries are not 0 with the density that is asked for",
    "signs": "how many entries are positive with one half",
    "identity": "the matrix with a multiple of the identity",
    "all zero": "all numbers with 0",
    "constant": "all numbers with the one that is asked for",
    "unit by unit": "each unit's bias with that of the gate that it follows",
    "finite": "all numbers are to be finite",
}
"""What each test compares, in words, by the test's name."""


class Outcome(NamedTuple):
    """One test: what was looked at, and how probable it is under the distribution asked for."""

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


def all_zero(observed: Observed) -> Outcome:
    """Test that every number is 0."""
    return exact("all zero", not observed.values.any())


def constant(observed: Observed, number: float) -> Outcome:
    """Test that every number is ``number``, to rounding."""
    slack = observed.rounding + 4.0 * observed.roundoff * abs(number)
    return exact("constant", np.abs(observed.values - number).max() <= slack)


def standard_normal(x: Array) -> tuple[Outcome, ...]:
    """Test entries (n,) that should be independent N(0, 1)."""
    from scipy.special import ndtr

    n = x.size
    mean = 2.0 * float(ndtr(-abs(x.sum()) / math.sqrt(n)))
    shape = kolmogorov_smirnov(ndtr(thinned(x)))
    return Outcome("mean", mean), Outcome("variance", _chi2(float(x @ x), n)), Outcome("shape", shape)


def rows(x: Array) -> Outcome:
    """Test rows, of entries that should be N(0, 1): their squared lengths should be independent χ²(fan-in)."""
    from scipy.special import chdtr

    return Outcome("rows", kolmogorov_smirnov(chdtr(x.shape[1], np.einsum("ij,ij->i", x, x))))


def unit_uniform(x: Array, roundoff: float) -> tuple[Outcome, ...]:
    """Test entries (n,) that should be independent and uniform on [−1, 1]."""
    shape = kolmogorov_smirnov(np.clip(0.5 * (thinned(x) + 1.0), 0.0, 1.0))
    return (*_bounded(x, 1.0, roundoff, (1.0 / 3.0, 1.0 / 5.0, 1.0 / 7.0)), Outcome("shape", shape))


def truncated_standard_normal(x: Array, cut: float, roundoff: float) -> tuple[Outcome, ...]:
    """Test entries (n,) that should be independent and N(0, 1), those beyond ±``cut`` drawn again."""
    from scipy.special import ndtr

    low, high = float(ndtr(-cut)), float(ndtr(cut))
    edge = 2.0 * math.exp(-0.5 * cut**2) / math.sqrt(2.0 * math.pi) / (high - low)
    second = 1.0 - cut * edge
    fourth = 3.0 * second - cut**3 * edge
    moments = (second, fourth, 5.0 * fourth - cut**5 * edge)
    shape = kolmogorov_smirnov(np.clip((ndtr(thinned(x)) - low) / (high - low), 0.0, 1.0))
    return (*_bounded(x, cut, roundoff, moments), Outcome("shape", shape))


def _bounded(x: Array, edge: float, roundoff: float, moments: tuple[float, float, float]) -> tuple[Outcome, ...]:
    """Test independent symmetric entries within ±``edge`` of the given second, fourth and sixth moments."""
    from scipy.special import gdtr, gdtrc, ndtr

    n, (second, fourth, sixth) = x.size, moments
    inside = exact("range", np.abs(x).max() <= edge * (1.0 + 4.0 * roundoff))
    mean = 2.0 * float(ndtr(-abs(x.sum()) / math.sqrt(n * second)))
    # of y = x², by its variance and third central moment
    variance = fourth - second**2
    skew = (sixth - 3.0 * second * fourth + 2.0 * second**3) / variance**1.5 / math.sqrt(n)
    shape = 4.0 / skew**2
    # shifted gamma: mean 0, variance 1 and this skewness
    z = max((float(x @ x) - n * second) / math.sqrt(n * variance), -2.0 / skew)
    at = shape + z * math.sqrt(shape)
    squares = _two_sided(float(gdtr(1.0, shape, at)), float(gdtrc(1.0, shape, at)))
    return inside, Outcome("mean", mean), Outcome("variance", squares)


def haar_rows(x: Array, roundoff: float) -> tuple[Outcome, ...]:
    """Test rows that should be orthonormal and Haar-distributed."""
    height, columns = x.shape
    # QR in single precision, as frameworks do it, and what the stored type loses
    slack = 4.0 * roundoff + 64.0 * 2.0**-24 * math.sqrt(columns)
    lengths = np.abs(np.einsum("ij,ij->i", x, x) - 1.0).max()
    gram = exact("orthogonal", max(lengths, orthogonality_error(x)) <= slack)
    if columns < 2:
        return (gram,)
    # rounding must not make an entry look larger than it was drawn
    mean = _beyond(float(x.sum()) ** 2 / (height * columns) - 2.0 * slack, columns)
    largest = min(1.0, x.size * _beyond(float(np.abs(x).max()) ** 2 - 2.0 * slack, columns))
    return gram, Outcome("mean", mean), Outcome("largest entry", largest)


def haar_trace(x: Array) -> float:
    """Return the p of the trace of a Haar-distributed orthogonal matrix, which is N(0, 1).

    The trace has the moments of N(0, 1) up to order 2n − 1 (Diaconis & Shahshahani 1994), so no width is too small for
    it to matter.
    """
    from scipy.special import ndtr

    return float(2.0 * ndtr(-abs(np.trace(x))))


def orthogonality_error(x: Array) -> float:
    """Return max |x xᵀ − I| over at most 512 evenly spaced rows."""
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), _ROWS)).round().astype(int))
    gram = x[some] @ x[some].T
    gram[np.diag_indices(len(some))] -= 1.0
    return float(np.abs(gram).max())


def spectral_radius(w: Array, roundoff: float) -> tuple[float, float]:
    """Return the largest absolute eigenvalue, and by how much rounding of the entries can have moved it.

    To first order an eigenvalue with right and left eigenvectors x and y moves by yᴴ E x/(yᴴ x).  Rounding makes the
    entries of E independent and of size ``roundoff``·|w|.  All eigenvalues count that can be the largest then.
    """
    from scipy.linalg import eig

    values, left, right = eig(w, left=True)
    radius = float(np.abs(values).max())
    large = np.abs(values) > 0.5 * radius
    x, y = right[:, large], left[:, large]
    entries = np.einsum("ik,ij,jk->k", np.abs(y) ** 2, w * w, np.abs(x) ** 2, optimize=True)
    overlap = np.abs(np.einsum("ik,ik->k", y.conj(), x))
    deviations = (roundoff + _SOLVER) * np.sqrt(entries) / np.maximum(overlap, np.finfo(float).tiny)
    moves = _DEVIATIONS * deviations
    return radius, float(moves[np.abs(values[large]) + moves >= radius].max(initial=0.0))


# ---- probabilities ---------------------------------------------------------------------------------------


def exact(name: str, holds: bool | np.bool_) -> Outcome:
    """Return the outcome of a test without chance."""
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


def thinned(x: Array) -> Array:
    """Return at most 65,536 evenly spaced ones of the numbers."""
    return x if x.size <= _SAMPLE else x[np.linspace(0, x.size - 1, _SAMPLE).astype(int)]


def kolmogorov_smirnov(q: Array) -> float:
    """Return p of the Kolmogorov–Smirnov test of values (n,) that should be uniform on [0, 1]."""
    from scipy.special import smirnov

    q, n = np.sort(q), q.size
    steps = np.arange(n + 1) / n
    distance = max(float((steps[1:] - q).max()), float((q - steps[:-1]).max()))
    return min(1.0, 2.0 * float(smirnov(n, distance)))


def binomial(count: int, trials: int, probability: float) -> float:
    """Return the two-sided p of ``count`` successes in so many trials of that probability."""
    from scipy.special import bdtr, bdtrc

    if trials == 0 or probability in (0.0, 1.0):
        return float(count == trials * probability)
    above = float(bdtrc(count - 1, trials, probability)) if count > 0 else 1.0
    return _two_sided(float(bdtr(count, trials, probability)), above)
