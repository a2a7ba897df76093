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


def matrix(kernel: Kernel, size: int, rng: np.random.Generator) -> Array:
    """A square matrix of the kernel's law: Var(entry)·size = ``kernel.variance``."""
    gain = math.sqrt(kernel.variance)
    if kernel.distribution == "normal":
        return rng.standard_normal((size, size)) * (gain / math.sqrt(size))
    if kernel.distribution == "uniform":
        bound = gain * math.sqrt(3.0 / size)
        return rng.uniform(-bound, bound, (size, size))
    if kernel.distribution == "orthogonal":
        return gain * haar(size, size, rng)
    return gain * np.eye(size)


def _diagonal(kernel: Kernel) -> Apply | None:
    gain = math.sqrt(kernel.variance)
    if gain == 0.0:
        return np.zeros_like
    return (lambda x: gain * x) if kernel.distribution == "identity" else None


def fixed(kernel: Kernel, size: int, rng: np.random.Generator) -> Apply:
    """One matrix for all time."""
    diagonal = _diagonal(kernel)
    if diagonal is not None:
        return diagonal
    transposed = np.ascontiguousarray(matrix(kernel, size, rng).T)
    return lambda x: x @ transposed


def fresh(kernel: Kernel, size: int, rng: np.random.Generator) -> Apply:
    """A matrix drawn anew at every call."""
    diagonal = _diagonal(kernel)
    if diagonal is not None:
        return diagonal
    gain = math.sqrt(kernel.variance)

    def apply(x: Array) -> Array:
        q, r = np.linalg.qr(x.T)
        if kernel.distribution == "orthogonal":
            block = gain * haar(size, q.shape[1], rng)
        else:
            block = rng.standard_normal(q.shape) * (gain / math.sqrt(size))
        return np.asarray((block @ r).T)

    return apply
