"""What a distribution is drawn with: the same few primitives in NumPy and in every framework.

A kernel says in ``draw`` how it is made of these primitives.  The portable sampler draws with ``NumpyDrawing``; each
adapter has one class of the same form that draws on the framework's own device (the native sampler).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Drawing", "Generator", "NumpyDrawing", "haar", "maker"]

Array = NDArray[np.float64]
Generator = np.random.Generator | Callable[[], np.random.Generator]
"""A random generator, or a function that makes one where numbers are drawn."""
A = TypeVar("A", covariant=True)


class Drawing(Protocol[A]):
    """One matrix to be drawn, of shape (rows, columns); each method returns it as the framework's array.

    A distribution calls one of the methods, once.
    """

    rows: int
    columns: int

    def zeros(self) -> A:
        """Return zeros."""
        ...

    def identity(self, gain: float) -> A:
        """Return ``gain`` times the identity; rows equal columns."""
        ...

    def normal(self, deviation: float) -> A:
        """Return independent N(0, ``deviation``²) entries."""
        ...

    def uniform(self, bound: float) -> A:
        """Return independent entries, uniform between -``bound`` and ``bound``."""
        ...

    def orthogonal(self, gain: float) -> A:
        """Return ``gain`` times the first rows of a Haar-distributed orthogonal matrix; rows are at most columns."""
        ...

    def numpy(self, sample: Callable[[np.random.Generator], Array]) -> A:
        """Return what ``sample`` draws with NumPy, for a distribution that no framework can draw by itself."""
        ...


def maker(generator: Generator) -> Callable[[], np.random.Generator]:
    """Return a function that returns the generator, or makes it."""
    return (lambda: generator) if isinstance(generator, np.random.Generator) else generator


class NumpyDrawing:
    """A matrix drawn by NumPy in float64.

    Args:
        generator: Makes the random generator; it is called only where numbers are drawn.
        rows: Number of rows.
        columns: Number of columns.
    """

    def __init__(self, generator: Callable[[], np.random.Generator], rows: int, columns: int) -> None:
        self.generator, self.rows, self.columns = generator, rows, columns

    def zeros(self) -> Array:
        """Return zeros."""
        return np.zeros((self.rows, self.columns))

    def identity(self, gain: float) -> Array:
        """Return ``gain`` times the identity."""
        return gain * np.eye(self.rows, self.columns)

    def normal(self, deviation: float) -> Array:
        """Return independent normal entries."""
        drawn = self.generator().standard_normal((self.rows, self.columns))
        drawn *= deviation
        return drawn

    def uniform(self, bound: float) -> Array:
        """Return independent uniform entries."""
        return self.generator().uniform(-bound, bound, (self.rows, self.columns))

    def orthogonal(self, gain: float) -> Array:
        """Return rows of a Haar matrix, times ``gain``."""
        drawn = haar(self.generator(), self.rows, self.columns)
        drawn *= gain
        return drawn

    def numpy(self, sample: Callable[[np.random.Generator], Array]) -> Array:
        """Return what ``sample`` draws."""
        return sample(self.generator())


def haar(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """Return the first ``rows`` ≤ ``columns`` rows of a Haar-distributed orthogonal matrix.

    Householder QR of the transposed Gaussian matrix, with the signs of R's diagonal made positive (without that the
    distribution is not Haar: Mezzadri 2007, arXiv:math-ph/0609050), all in the one array that is returned.
    Cost: O(columns·rows²).
    """
    from scipy.linalg import get_lapack_funcs  # not at the top: who draws nothing need not load it

    geqrf, orgqr = get_lapack_funcs(("geqrf", "orgqr"), dtype=np.float64)
    # a C-ordered array is LAPACK's own order of its transpose, whose columns become the rows returned
    a = rng.standard_normal((rows, columns)).T
    _, _, work, _ = geqrf(a, lwork=-1, overwrite_a=1)  # -1 asks how much work space, and changes nothing
    a, tau, _, _ = geqrf(a, lwork=int(work[0]), overwrite_a=1)
    signs = np.where(np.diagonal(a) < 0, -1.0, 1.0)
    _, work, _ = orgqr(a, tau, lwork=-1, overwrite_a=1)
    a, _, _ = orgqr(a, tau, lwork=int(work[0]), overwrite_a=1)
    a *= signs
    return np.asarray(a.T)


def fan(kind: str, rows: int, columns: int) -> float:
    """Return the number that a kernel's variance is divided by: its fan-in, its fan-out, or their mean."""
    return {"in": float(columns), "out": float(rows), "average": 0.5 * (rows + columns)}[kind]


def deviation(variance: float, width: float) -> float:
    """Return the standard deviation of an entry of a kernel: √(variance/width)."""
    return math.sqrt(variance) / math.sqrt(width)


_: type[Drawing[Any]] = NumpyDrawing  # held to the protocol by the type checker
