"""Gaussian fields W m(t) of a fixed matrix W, sampled as the messages m(t) become known.

Over P particles, m(t) ∈ ℝᴾ.  Given y(s) = W m(s) for s < t, W m(t) is distributed as the same combination of the
y(s) as m(t) has of the m(s), plus a fresh vector for what is left of m(t).  With the Cholesky factor L of the
Gram matrix m(s)·m(t)/P, grown by one row a step, and fresh vectors ξ_s,

    y(t) = σ Σ_{s≤t} L_ts ξ_s.

W enters a forward pass only through W m, never through Wᵀ, so this is exact for a Gaussian W of size P (ξ
independent normal) and for a Haar orthogonal one (ξ orthonormal); their limits P → ∞ agree, a Gaussian process with
covariance σ² E m(t) m(s).  Orthonormal ξ hold that covariance exactly over the particles and leave less noise, so
they are used for both.

Two safeguards.  A message that the past determines to 1e-8 of its square adds no row, so no square root of a
rounding error is ever taken; nothing accumulates, for the next message is again compared with all the past.  The
past is kept as its newest messages one by one and its older ones as averages over blocks of doubling length:
what an average forgets is the part of a long-gone message that varies within its block, with which later messages
have no correlation left once the block is older than it is long.

Messages are compared in double precision.  Noise is kept in single precision, half as much to read at each step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.theory.protocol import OUTGROWN

__all__ = ["Field"]

_DETERMINED = 1e-8
"""Share of a message's square below which the past determines it."""


class Field:
    """The signals σ_k W_k m(t) of all gates k that read one message, one independent field each.

    One step costs O(rows·(gates + 1)·kept) with kept ≤ 2·recent + level·log₂(steps).

    Args:
        rows: Particles.
        gains: Gate -> σ_k.
        rng: Random generator.
        recent: Newest messages kept one by one.
        level: Block averages kept of each length.
    """

    def __init__(
        self,
        rows: int,
        gains: Mapping[str, float],
        rng: np.random.Generator,
        *,
        recent: int = 32,
        level: int = 6,
    ) -> None:
        self.rows, self.gains, self.rng = rows, dict(gains), rng
        self.recent, self.level = recent, level
        self.kept = 0
        self.sizes: list[int] = []
        self.messages: Array
        self.inverse: Array
        self.factor: Array
        self.noise: NDArray[np.float32]
        self._grow(2 * recent)

    def _grow(self, capacity: int) -> None:
        """Room for ``capacity`` messages, with fresh noise for those to come."""
        old, self.capacity = self.kept, capacity
        messages, inverse = np.zeros((capacity, self.rows)), np.zeros((capacity, capacity))
        factor = np.zeros((capacity, capacity))
        noise = np.empty((capacity, len(self.gains), self.rows), dtype=np.float32)
        if old:
            messages[:old], inverse[:old, :old], factor[:old, :old], noise[:old] = (
                self.messages[:old], self.inverse[:old, :old], self.factor[:old, :old], self.noise[:old],
            )  # fmt: skip
        for gate in range(len(self.gains)):
            noise[old:, gate] = _fresh(noise[:old, gate], capacity - old, self.rng)
        self.messages, self.inverse, self.factor, self.noise = messages, inverse, factor, noise

    def signals(self, message: Array) -> dict[str, Array]:
        """Return σ_k W_k m by gate for the next message m, of shape (rows,).

        Raises:
            ArgumentError: The message is beyond what numbers hold.
        """
        square = float(message @ message) / self.rows
        if not math.isfinite(square):
            raise ArgumentError("second_moment", found="a state that outgrows all numbers", hint=OUTGROWN)
        if square == 0.0:
            return {gate: np.zeros(self.rows) for gate in self.gains}
        if self.kept == self.capacity:
            self._condense()
        r = self.kept
        c = self.inverse[:r, :r] @ (self.messages[:r] @ message / self.rows)
        left = square - float(c @ c)
        if left > _DETERMINED * square:
            own = math.sqrt(left)
            self.messages[r] = message
            self.factor[r, :r], self.factor[r, r] = c, own
            self.inverse[r, :r], self.inverse[r, r] = (c @ self.inverse[:r, :r]) / -own, 1.0 / own
            c = self.factor[r, : r + 1]
            self.sizes.append(1)
            self.kept += 1
        size = math.sqrt(square)  # single precision holds no more than 1e38
        mixed = (c / size).astype(np.float32) @ self.noise[: len(c)].reshape(len(c), -1)
        y = size * mixed.astype(float).reshape(-1, self.rows)
        return {gate: gain * own for (gate, gain), own in zip(self.gains.items(), y, strict=True)}

    def _condense(self) -> None:
        """Average old neighbours, and turn the noise into the frame of what is kept.

        What is older than the first that are averaged stays as it is, and so does its frame.
        """
        from scipy.linalg import solve_triangular  # not at the top: what has no fields need not load it

        r, sizes = self.kept, np.array(self.sizes, dtype=float)
        groups = _groups(self.sizes, self.recent, self.level)
        same = next((i for i, group in enumerate(groups) if len(group) > 1), len(groups))
        first, last = (np.array([group[end] for group in groups[same:]], dtype=int) for end in (0, -1))
        total = np.add.reduceat(sizes, [group[0] for group in groups])
        mix, rows = np.zeros((len(groups) - same, r)), np.arange(len(groups) - same)
        mix[rows, first], mix[rows, last] = sizes[first] / total[same:], sizes[last] / total[same:]
        factor = mix @ self.factor[:r, :r]
        scale = np.linalg.norm(factor, axis=1)
        v, upper = np.linalg.qr(factor[:, same:].T)
        own = np.abs(np.diag(upper)) > math.sqrt(_DETERMINED) * np.maximum(scale, np.finfo(float).tiny)
        if not np.all(own):  # drop what the older ones already span
            total = np.concatenate([total[:same], total[same:][own]])
            mix, factor = mix[own], factor[own]
            v, upper = np.linalg.qr(factor[:, same:].T)
        sign = np.where(np.diag(upper) < 0.0, -1.0, 1.0)
        v, lower = v * sign, (upper * sign[:, None]).T
        n = len(total)
        self.messages[same:n] = mix[:, same:] @ self.messages[same:r]
        self.factor[same:n, :same], self.factor[same:n, same:n] = factor[:, :same], lower
        inverse = solve_triangular(lower, np.eye(n - same), lower=True)
        self.inverse[same:n, :same] = -(inverse @ factor[:, :same]) @ self.inverse[:same, :same]
        self.inverse[same:n, same:n] = inverse
        frame = self.noise[same:r].reshape(r - same, -1)
        self.noise[same:n] = (v.T.astype(np.float32) @ frame).reshape(n - same, -1, self.rows)
        self.sizes = [int(size) for size in total]
        self.kept = n
        self._grow(n + self.recent)


def _groups(sizes: list[int], recent: int, level: int) -> list[list[int]]:
    """Which of the kept messages, oldest first, are averaged: pairs of equal size beyond ``level`` of that size."""
    old = len(sizes) - recent
    size = np.array(sizes[:old])
    later = np.triu(size <= size[:, None], 2).sum(axis=1)
    groups, i = [], 0
    while i < old:
        if i + 1 < old and sizes[i] == sizes[i + 1] and later[i] >= level:
            groups.append([i, i + 1])
            i += 2
        else:
            groups.append([i])
            i += 1
    return groups + [[j] for j in range(old, len(sizes))]


def _fresh(old: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """``count`` rows of noise, orthonormal (times √rows) with each other and ``old`` if the rows are long enough."""
    rows = old.shape[1]
    z = rng.standard_normal((count, rows), dtype=np.float32)
    if len(old) + count + 1 > rows // 2:
        return z
    z -= z.mean(axis=1, keepdims=True)
    z -= (z @ old.T / rows) @ old
    factor = np.linalg.cholesky(z @ z.T / rows)  # far from singular: many more columns than rows
    return np.asarray(np.linalg.inv(factor) @ z)
