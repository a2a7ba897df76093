"""Weight matrices as operators on rows: ``apply(Rows(x))`` takes x of shape (r, N) to x Wᵀ.

A tied network draws each matrix once.  An untied one draws them anew at every step, where only W x for the few
rows x at hand is needed: with xᵀ = Q R the product W Q is again a fresh N × r block of W (entries N(0, σ²/N)
of a Gaussian W, an orthonormal frame of a Haar W), so W xᵀ = (W Q) R costs O(N r²) and no matrix is drawn.
This is exact in distribution for Gaussian and orthogonal kernels; another untied kernel of
independent entries is replaced by the Gaussian one of the same variance, from which its products differ by O(1/N).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from critinit.distributions import Kernel, KernelFamily
from critinit.dual import Array

__all__ = ["Apply", "Rows", "blocks", "fixed", "fresh", "side_by_side"]


@dataclass(frozen=True)
class Rows:
    """Rows that several matrices multiply.

    Attributes:
        array: x, (r, N), or (networks, r, N) for as many networks side by side.
    """

    array: Array

    @cached_property
    def triangle(self) -> Array:
        """R of xᵀ = Q R, (…, min(r, N), r): all that a matrix drawn for these rows needs to know of them."""
        if self.array.shape[-2] == 1:
            return np.asarray(np.linalg.norm(self.array, axis=-1, keepdims=True))
        return np.asarray(np.linalg.qr(self.array.swapaxes(-1, -2), mode="r"))


@dataclass(frozen=True)
class Fixed:
    """One matrix for all time.

    Attributes:
        transposed: Wᵀ, (columns, rows), or (networks, columns, rows).
    """

    transposed: Array

    def __call__(self, x: Rows) -> Array:
        return x.array @ self.transposed


@dataclass(frozen=True)
class Fresh:
    """A matrix that is drawn anew at every call.

    Attributes:
        generators: The random generator of each network.
        rows: Rows of the matrix.
        columns: Its columns.
        gain: The root of the variance of its entries times its columns.
        orthogonal: Whether it is Haar-distributed; else its entries are independent and normal.
    """

    generators: tuple[np.random.Generator, ...]
    rows: int
    columns: int
    gain: float
    orthogonal: bool

    def __call__(self, x: Rows) -> Array:
        *networks, count, _ = x.triangle.shape
        frames = (self._orthonormal(count) if self.orthogonal else self._normal(count)) * self.gain
        frames = frames if networks else frames[0]
        return np.asarray((frames @ x.triangle).swapaxes(-1, -2))

    def _normal(self, count: int) -> Array:
        drawn = [rng.standard_normal((self.rows, count)) for rng in self.generators]
        return np.stack(drawn) / math.sqrt(self.columns)

    def _orthonormal(self, count: int) -> Array:
        """So many columns of Haar matrices, as ``critinit.distributions.haar`` draws them."""
        drawn = [rng.standard_normal((count, self.columns)) for rng in self.generators]
        q, r = np.linalg.qr(np.stack(drawn).swapaxes(-1, -2))
        signs = np.where(np.diagonal(r, axis1=-2, axis2=-1) < 0.0, -1.0, 1.0)
        return np.asarray((q * signs[:, None])[:, : self.rows])


@dataclass(frozen=True)
class Diagonal:
    """A gain for every unit by itself.

    Attributes:
        gain: The gain.
        rows: How many units.
    """

    gain: float
    rows: int

    def __call__(self, x: Rows) -> Array:
        return self.gain * x.array if self.gain else np.zeros((*x.array.shape[:-1], self.rows))


@dataclass(frozen=True)
class Blocks:
    """The matrices of a layer's groups of units, one below the other.

    Attributes:
        parts: One matrix a group.
        read: Which of the columns each reads; None where each reads all.
    """

    parts: tuple[Apply, ...]
    read: tuple[slice, ...] | None

    def __call__(self, x: Rows) -> Array:
        read = self.read or (slice(None),) * len(self.parts)
        each = [
            part(x if self.read is None else Rows(x.array[..., own]))
            for part, own in zip(self.parts, read, strict=True)
        ]
        return np.concatenate(each, axis=-1)


Apply = Fixed | Fresh | Diagonal | Blocks


def fixed(kernel: Kernel, rows: int, columns: int, rng: np.random.Generator) -> Apply:
    """Return one matrix for all time."""
    if kernel.family is KernelFamily.DIAGONAL:
        return _diagonal(kernel, rows)
    return Fixed(np.ascontiguousarray(kernel.sample(rng, rows, columns).T))


def fresh(kernel: Kernel, rows: int, columns: int, rng: np.random.Generator) -> Apply:
    """Return a matrix that is drawn anew at every call."""
    if kernel.family is KernelFamily.DIAGONAL:
        return _diagonal(kernel, rows)
    return Fresh((rng,), rows, columns, kernel.gain, kernel.family is KernelFamily.HAAR)


def side_by_side(kernels: Sequence[Apply]) -> Apply:
    """Return the kernels of several networks as one operator on rows with a leading axis of networks.

    Args:
        kernels: One of each network, all of the same kind.
    """
    first = kernels[0]
    if isinstance(first, Fixed):
        matrices = [kernel.transposed for kernel in kernels if isinstance(kernel, Fixed)]
        return Fixed(first.transposed[None] if len(matrices) == 1 else np.stack(matrices))
    if isinstance(first, Fresh):
        generators = [rng for kernel in kernels if isinstance(kernel, Fresh) for rng in kernel.generators]
        return replace(first, generators=tuple(generators))
    if isinstance(first, Blocks):
        groups = zip(*(kernel.parts for kernel in kernels if isinstance(kernel, Blocks)), strict=True)
        return replace(first, parts=tuple(side_by_side(group) for group in groups))
    return first


def blocks(parts: Sequence[Apply], read: Sequence[slice] | None = None) -> Apply:
    """Return the matrices of groups of units as one; ``read`` are the columns of each, all where it is None."""
    return parts[0] if len(parts) == 1 else Blocks(tuple(parts), None if read is None else tuple(read))


def _diagonal(kernel: Kernel, rows: int) -> Apply:
    return Diagonal(0.0 if kernel.is_zero else kernel.gain, rows)
