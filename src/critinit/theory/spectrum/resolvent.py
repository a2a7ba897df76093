"""The resolvent of the one-step Jacobian at infinite width, from its couplings over units: free probability.

J = D_a + Σ_k D_{a_k} W_k B_k (``tied.jacobian``) is made linear in the kernels by one more index m, the message of
the gate c that another gate scales ahead of its kernel (the original GRU): B_c s = m with
0 = −m + D_{e_c} s + Σ_l D_{b_l} W_l D_{e_l} s.  Then every kernel W_k stands once, between a left vector
L_k = (a_k, b_k) over rows (s, m) and a right one: e_k at column s, or 1 at column m for k = c.  The resolvent of the
symmetric matrix [[0, J], [Jᵀ, 0]] at z, whose eigenvalues are ± the singular values, is at each unit the inverse of

    [[z − Σ_k r_k a_k²  , −Σ_k r_k a_k b_k ], [ −a   , 0 ]]
    [[  (symmetric)     , −Σ_k r_k b_k²    ], [ −e_c , 1 ]]          rows (s, m), columns (s, m)
    [[                                     ], [ z − Σ_{k≠c} q_k e_k² , 0    ]]
    [[                                     ], [ 0                    , −q_c ]]

with two numbers per kernel, fed back by the units' averages g_k = E L_kᵀ G L_k and f_k = E R_kᵀ G R_k:

    independent entries (normal, uniform):   r_k = σ_k² f_k,                    q_k = σ_k² g_k
    orthogonal of gain σ_k:                  r_k = σ_k² f_k/(1 + q_k f_k),      q_k = σ_k² g_k/(1 + r_k g_k)

The orthogonal rule is that of the R-transform (−1 + √(1 + 4 σ² f g))/2g with the root resolved: at the solution
q f = r g, which squares to it.  Which branch of the root is meant depends on z (it changes sign for |z| < σ of a bare
orthogonal matrix); the rational form has none, and like the other it maps the lower half-plane to itself for
Im z > 0, so its fixed point there is unique and iteration finds it (Helton, Rashidi Far & Speicher 2007;
Belinschi, Mai & Speicher 1303.3196).

Validity: as of ``tied.jacobian``; identity kernels are part of a.  One gate's message may be scaled ahead of its
kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from critinit.distributions import Kernel, KernelFamily
from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.theory.tied.jacobian import Couplings

__all__ = ["Complex", "Pencil", "Resolvent", "resolvents"]

Complex = NDArray[np.complex128]

_TOLERANCE = 1e-8
"""Relative change at which the feedback counts as solved."""
_ITERATIONS = 400
"""Most iterations; ten or so are needed away from edges."""
_MEMORY = 5
"""Past iterates that Anderson's acceleration combines."""
_DAMPING = 0.5
"""Share of a plain step: a whole one can oscillate between two values."""
_RIDGE = 1e-12
"""Relative regularization of the acceleration's least squares."""
_AT_ONCE = 1 << 15
"""Units times points in one product: what stays in cache."""


@dataclass(frozen=True)
class Pencil:
    """The couplings of P units to K kernels, without gates that do not act.

    Attributes:
        variance: σ_k², (K,).
        orthogonal: Whether a kernel is orthogonal, (K,).
        keep: a, (P,).
        left: a_k, (K, P).
        right: e_k, (K, P).
        inner: Index of the gate c with a scaled message, or None.
        scaled: b_k, (K, P).
    """

    variance: Array
    orthogonal: NDArray[np.bool_]
    keep: Array
    left: Array
    right: Array
    inner: int | None
    scaled: Array

    @classmethod
    def of(cls, couplings: Couplings, kernels: Mapping[str, Kernel]) -> Pencil:
        """Return the pencil of couplings with these kernels.

        Raises:
            ArgumentError: The messages of two gates are scaled ahead of their kernels.
        """
        names, by = couplings.names, couplings.update
        units = by.shape[1]
        blocks = {n: np.broadcast_to(couplings.messages[n], by.shape) for n in names}
        acting = [n for i, n in enumerate(names) if np.any(by[1 + i]) and kernels[n].variance > 0.0]
        nested = [n for n in acting if np.any(blocks[n][1:])]
        if len(nested) > 1:
            found = f"messages of {', '.join(nested)} scaled ahead of their kernels"
            raise ArgumentError("cell", found=found, allowed="one gate's")
        inner = [n for i, n in enumerate(names) if nested and np.any(blocks[nested[0]][1 + i])]
        used = [n for n in names if (n in acting or n in inner) and kernels[n].variance > 0.0]
        rows = [1 + names.index(n) for n in used]
        scaled = blocks[nested[0]][rows] if nested else np.zeros((len(used), units))
        return cls(
            variance=np.array([kernels[n].variance for n in used]),
            orthogonal=np.array([kernels[n].family is KernelFamily.HAAR for n in used], dtype=bool),
            keep=np.ascontiguousarray(by[0]),
            left=np.ascontiguousarray(by[rows]),
            right=np.array([blocks[n][0] for n in used]).reshape(len(used), units),
            inner=used.index(nested[0]) if nested else None,
            scaled=np.ascontiguousarray(scaled),
        )

    @cached_property
    def _products(self) -> tuple[Complex, Complex, Complex, Complex]:
        """a_k², e_k² (0 for the gate c, whose message is no multiple of s), a_k b_k and b_k², complex, (K, P)."""
        right = np.array(self.right**2)
        if self.inner is not None:
            right[self.inner] = 0.0
        products = (self.left**2, right, self.left * self.scaled, self.scaled**2)
        a, b, c, d = (x.astype(complex) for x in products)
        return a, b, c, d

    def respond(self, z: Complex, r: Complex, q: Complex) -> tuple[Complex, Complex, Complex]:
        """Return g and f (Z, K), and the trace of the resolvent (Z,), at z (Z,) with r and q (Z, K)."""
        left, right, both, scaled = self._products
        row, column = z[:, None] - r @ left, z[:, None] - q @ right
        units = self.keep.size
        if self.inner is None:
            inverse = np.reciprocal(row * column - self.keep**2)
            rows, columns = column * inverse, row * inverse
            return rows @ left.T / units, columns @ right.T / units, np.mean(rows, axis=1)
        # eliminate the index m first: its pair [[−own, 1], [1, −t]] adds to the pair of s
        e, t, own = self.right[self.inner], q[:, self.inner, None], r @ scaled
        mixed = r @ both if np.any(both) else np.zeros((1, 1), complex)
        shared = np.reciprocal(1.0 - own * t)
        inside = t * shared
        row = row - inside * mixed**2 if mixed.size > 1 else row
        column -= inside * (e * e)
        cross = self.keep + inside * (mixed * e) if mixed.size > 1 else self.keep
        inverse = np.reciprocal(row * column - cross * cross)
        rows, columns = column * inverse, row * inverse
        through = columns * (e * e)
        g = rows @ left.T
        if mixed.size > 1:
            toward = mixed * rows + e * cross * inverse
            through += mixed * (toward + e * cross * inverse)
            g += 2.0 * (inside * toward) @ both.T
        g += (inside * (1.0 + inside * through)) @ scaled.T
        f = columns @ right.T
        f[:, self.inner] = np.sum(shared * (own + shared * through), axis=1)
        return g / units, f / units, np.mean(rows, axis=1)

    def step(self, z: Complex, x: Complex) -> tuple[Complex, Complex]:
        """Return the next r and q in one array (Z, 2K), and the trace (Z,)."""
        k = self.variance.size
        r, q = x[:, :k], x[:, k:]
        g, f, trace = self.respond(z, r, q)
        haar = self.orthogonal
        after = np.concatenate([f / (1.0 + haar * q * f), g / (1.0 + haar * r * g)], axis=1)
        return after * np.tile(self.variance, 2), trace


class Resolvent(NamedTuple):
    """The resolvent on a grid.

    Attributes:
        trace: The normalised trace of (z − [[0, J], [Jᵀ, 0]])⁻¹, (heights, points).
        residual: The largest relative change of the feedback in one more iteration.
    """

    trace: Complex
    residual: float


def resolvents(pencil: Pencil, points: Array, heights: Array) -> Resolvent:
    """Return the resolvent at z = points + i·heights.

    Each height starts from the one above.  The cost is O(Y·S·P·K) times ten or so iterations.

    Args:
        pencil: The couplings.
        points: Real parts, (S,).
        heights: Imaginary parts, positive and descending, (Y,).
    """
    chunk = max(1, _AT_ONCE // pencil.keep.size)
    parts = [_descend(pencil, points[i : i + chunk], heights) for i in range(0, len(points), chunk)]
    trace = np.concatenate([p.trace for p in parts], axis=1) if parts else np.zeros((len(heights), 0), complex)
    return Resolvent(trace, max((p.residual for p in parts), default=0.0))


def _descend(pencil: Pencil, points: Array, heights: Array) -> Resolvent:
    trace = np.empty((len(heights), len(points)), complex)
    x = np.tile(pencil.variance, 2) / (points[:, None] + 1j * heights[0])
    worst = 0.0
    for i, height in enumerate(heights):
        x, trace[i], residual = _solve(pencil, points + 1j * height, x)
        worst = max(worst, residual)
    return Resolvent(trace, worst)


def _solve(pencil: Pencil, z: Complex, x: Complex) -> tuple[Complex, Complex, float]:
    """The fixed point at every z, by Anderson's acceleration within the half-plane where it is unique."""
    x, trace, change = x.copy(), np.empty(len(z), complex), np.full(len(z), np.inf)
    open_ = np.arange(len(z))
    past: list[tuple[Complex, Complex]] = []
    for _ in range(_ITERATIONS):
        here = x[open_]
        after, trace[open_] = pencil.step(z[open_], here)
        miss = after - here
        size = np.max(np.abs(after), axis=1, initial=np.finfo(float).tiny)
        change[open_] = np.max(np.abs(miss), axis=1, initial=0.0) / size
        going = change[open_] > _TOLERANCE
        past = [(p[going], m[going]) for p, m in [*past[-_MEMORY:], (here, miss)]]
        open_ = open_[going]
        if not len(open_):
            break
        x[open_] = _mixed(past)
    return x, trace, float(np.max(change, initial=0.0))


def _mixed(past: list[tuple[Complex, Complex]]) -> Complex:
    """The combination of past iterates whose misses cancel best, plus half its miss; a half step where that leaves
    the lower half-plane."""
    here, miss = past[-1]
    plain = here + _DAMPING * miss
    if len(past) < 2:
        return plain
    dx = np.stack([b[0] - a[0] for a, b in pairwise(past)], axis=1)
    df = np.stack([b[1] - a[1] for a, b in pairwise(past)], axis=1)
    gram = df.conj() @ df.transpose(0, 2, 1)
    weight = np.einsum("zii->z", gram).real + np.finfo(float).tiny
    gram = gram + (_RIDGE * weight)[:, None, None] * np.eye(gram.shape[1])
    share = np.linalg.solve(gram, (df.conj() @ miss[:, :, None]))
    leap = plain - (share.transpose(0, 2, 1) @ (dx + _DAMPING * df))[:, 0]
    good = np.all(leap.imag <= 0.0, axis=1) & np.all(np.isfinite(leap), axis=1)
    return np.where(good[:, None], leap, plain)
