"""Weight matrices as operators on rows: ``apply(x)`` takes x of shape (r, N) to x Wᵀ.

A tied network draws each matrix once.  An untied one draws them anew at every step, where only W x for the few
rows x at hand is needed: with xᵀ = Q R the product W Q is again a fresh N × r block of W's law (entries N(0, σ²/N)
of a Gaussian W, an orthonormal frame of a Haar W), so W xᵀ = (W Q) R costs O(N r²) and no matrix is drawn.
This is exact in law for Gaussian and orthogonal kernels; an untied uniform kernel is replaced by the Gaussian one
of the same variance, from which its products differ by O(1/N).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from critinit.dual import Array
from critinit.spec import Kernel

__all__ = ["Apply", "fixed", "fresh", "haar", "matrix"]

Apply = Callable[[Array], Array]


def haar(rows: int, columns: int, rng: np.random.Generator) -> Array:
    """``columns`` ≤ ``rows`` orthonormal columns, uniform among such frames: the QR of a Gaussian, signs made unique."""
    q, r = np.linalg.qr(rng.standard_normal((rows, columns)))
    return np.asarray(q * np.where(np.diag(r) < 0.0, -1.0, 1.0))


def matrix(kernel: Kernel, rows: int, columns: int, rng: np.random.Generator) -> Array:
    """A matrix of the kernel's law: Var(entry)·columns = ``kernel.variance``; rows ≤ columns where orthogonal."""
    gain = math.sqrt(kernel.variance)
    if kernel.distribution == "normal":
        return rng.standard_normal((rows, columns)) * (gain / math.sqrt(columns))
    if kernel.distribution == "uniform":
        bound = gain * math.sqrt(3.0 / columns)
        return rng.uniform(-bound, bound, (rows, columns))
    if kernel.distribution == "orthogonal":
        return gain * (haar(rows, rows, rng) if rows == columns else haar(columns, rows, rng).T)
    return gain * np.eye(rows)


def _diagonal(kernel: Kernel, rows: int) -> Apply | None:
    gain = math.sqrt(kernel.variance)
    if gain == 0.0:
        return lambda x: np.zeros((*x.shape[:-1], rows))
    return (lambda x: gain * x) if kernel.distribution == "identity" else None


def fixed(kernel: Kernel, rows: int, columns: int, rng: np.random.Generator) -> Apply:
    """One matrix for all time."""
    diagonal = _diagonal(kernel, rows)
    if diagonal is not None:
        return diagonal
    transposed = np.ascontiguousarray(matrix(kernel, rows, columns, rng).T)
    return lambda x: x @ transposed


def fresh(kernel: Kernel, rows: int, columns: int, rng: np.random.Generator) -> Apply:
    """A matrix drawn anew at every call."""
    diagonal = _diagonal(kernel, rows)
    if diagonal is not None:
        return diagonal
    gain = math.sqrt(kernel.variance)

    def apply(x: Array) -> Array:
        q, r = np.linalg.qr(x.T)
        if kernel.distribution == "orthogonal":
            block = gain * haar(columns, q.shape[1], rng)[:rows]
        else:
            block = rng.standard_normal((rows, q.shape[1])) * (gain / math.sqrt(columns))
        return np.asarray((block @ r).T)

    return apply
