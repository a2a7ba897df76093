"""Weight matrices as operators on rows: ``apply(Rows(x))`` takes x of shape (r, N) to x Wᵀ.

A tied network draws each matrix once.  An untied one draws them anew at every step, where only W x for the few
rows x at hand is needed: with xᵀ = Q R the product W Q is again a fresh N × r block of W (entries N(0, σ²/N)
of a Gaussian W, an orthonormal frame of a Haar W), so W xᵀ = (W Q) R costs O(N r²) and no matrix is drawn.
This is exact in distribution for Gaussian and orthogonal kernels; another untied kernel of
independent entries is replaced by the Gaussian one of the same variance, from which its products differ by O(1/N).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import assert_never

import numpy as np

from critinit.distributions import Kernel, KernelFamily, haar
from critinit.dual import Array

__all__ = ["Apply", "Rows", "fixed", "fresh"]


@dataclass(frozen=True)
class Rows:
    """Rows that several matrices multiply.

    Attributes:
        array: x, (r, N).
    """

    array: Array

    @cached_property
    def triangle(self) -> Array:
        """R of xᵀ = Q R, (min(r, N), r): all that a matrix drawn for these rows needs to know of them."""
        if len(self.array) == 1:
            return np.array([[np.linalg.norm(self.array)]])
        return np.asarray(np.linalg.qr(self.array.T, mode="r"))


Apply = Callable[[Rows], Array]


def fixed(kernel: Kernel, rows: int, columns: int, rng: np.random.Generator) -> Apply:
    """Return one matrix for all time."""
    if kernel.family is KernelFamily.DIAGONAL:
        return _diagonal(kernel, rows)
    transposed = np.ascontiguousarray(kernel.sample(rng, rows, columns).T)
    return lambda x: x.array @ transposed


def fresh(kernel: Kernel, rows: int, columns: int, rng: np.random.Generator) -> Apply:
    """Return a matrix that is drawn anew at every call."""
    match kernel.family:
        case KernelFamily.DIAGONAL:
            return _diagonal(kernel, rows)
        case KernelFamily.HAAR:

            def frame(count: int) -> Array:
                return haar(rng, count, columns).T[:rows] * kernel.gain

        case KernelFamily.INDEPENDENT:

            def frame(count: int) -> Array:
                return np.asarray(rng.standard_normal((rows, count)) * (kernel.gain / np.sqrt(columns)))

        case _:
            assert_never(kernel.family)

    def apply(x: Rows) -> Array:
        return np.asarray((frame(len(x.triangle)) @ x.triangle).T)

    return apply


def _diagonal(kernel: Kernel, rows: int) -> Apply:
    if kernel.is_zero:
        return lambda x: np.zeros((len(x.array), rows))
    return lambda x: kernel.gain * x.array
