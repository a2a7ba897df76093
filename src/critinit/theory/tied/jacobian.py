"""First two moments of the squared singular values of the one-step Jacobian, from its couplings over units.

The couplings come from the cell's definition by forward mode: along direction 0 the memory moves and every field
W_k m_k stands still, along direction k the field k moves alone.  With D_x a diagonal of units' values,

    J = D_a + Σ_k D_{a_k} W_k B_k,      B_k = D_{e_k} + Σ_l D_{b_kl} W_l D_{e_l}

(b_kl ≠ 0 only where gate l scales the message of k ahead of its kernel), J Jᵀ has by freeness of the W

    m₁ = E a² + E v,                    v = Σ_k σ_k² β_k a_k²,   β_k = E e_k² + Σ_l σ_l² E b_kl² E e_l²
    m₂ = E a⁴ + 2 E[a² v] + 2 Σ_k σ_k² E a_k² E[a² diag(B_kᵀB_k)] + E v² + Σ_kl σ_k² E a_k² σ_l² E a_l² β_kl

with β_kl the mean of B_kᵀB_k·B_lᵀB_l under the trace; an orthogonal W_k takes σ_k⁴ (E a_k²)² β_k² off.  Where one
W_l acts both on the memory and within B_k (the MGU, whose one gate keeps and scales) there is in m₂ also

    2 σ_k² E a_k² (2 σ_l² E[a a_l e_k b_kl] E e_l² + σ_l⁴ (E e_l²)² (E a_l² b_kl², less E a_l² E b_kl² if orthogonal)).
Validity: infinite width, and W free of the diagonals, which is exact for untied weights; for tied ones it is held
to simulated networks in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from critinit.distributions import Kernel, KernelFamily
from critinit.dual import Array

__all__ = ["Couplings", "Factor", "Part"]


class Couplings(NamedTuple):
    """Derivatives of one step over P units, by direction: 0 the memory, k the field of gate k.

    Attributes:
        names: The gates with a field.
        update: Derivatives of s', (1 + gates, P).
        messages: Gate -> derivatives of its message m_k, (1 + gates, P).
    """

    names: list[str]
    update: Array
    messages: Mapping[str, Array]

    def factor(self, kernels: Mapping[str, Kernel]) -> Factor:
        """Return the Jacobian of the memory as a sum over gates."""
        return self._factor(self.update, kernels)

    def _factor(self, by: Array, kernels: Mapping[str, Kernel]) -> Factor:
        parts = [
            Part(name, kernels[name], by[1 + i], self._factor(self.messages[name], kernels))
            for i, name in enumerate(self.names)
            if np.any(by[1 + i])
        ]
        return Factor(np.broadcast_to(by[0], by.shape[1:]), parts)


class Part(NamedTuple):
    """D_{a_k} W_k B_k."""

    name: str
    kernel: Kernel
    coupling: Array
    inner: Factor

    @property
    def weight(self) -> float:
        """σ_k² E a_k²."""
        return self.kernel.variance * float(np.mean(self.coupling**2))


class Factor(NamedTuple):
    """X = D_a + Σ_k D_{a_k} W_k B_k."""

    diagonal: Array
    parts: list[Part]

    def columns(self) -> Array:
        """Return diag(XᵀX), by unit."""
        return self.diagonal**2 + sum((p.weight * p.inner.columns() for p in self.parts), np.zeros(()))

    def _through(self) -> Array:
        """v by unit."""
        terms = (p.kernel.variance * p.inner.first_moment() * p.coupling**2 for p in self.parts)
        return sum(terms, np.zeros(()))

    def first_moment(self) -> float:
        """Return m₁, the mean of X Xᵀ under the trace."""
        return float(np.mean(self.diagonal**2) + np.mean(self._through()))

    def second_moment(self, excess: float = 0.0) -> float:
        """Return m₂, the mean of (X Xᵀ)² under the trace; ``excess``: κ of a projection between kernels and state."""
        a2, v = self.diagonal**2, self._through()
        total = float(np.mean((a2 + v) ** 2)) + excess * float(np.mean(v)) ** 2
        for p in self.parts:
            columns = p.inner.columns()
            total += 2.0 * p.weight * (float(np.mean(a2 * columns)) + self._shared(p.inner))
            for q in self.parts:
                same = q.inner.second_moment() if q is p else float(np.mean(columns * q.inner.columns()))
                total += p.weight * q.weight * same
            if p.kernel.family is KernelFamily.HAAR:
                total -= (p.weight * p.inner.first_moment()) ** 2
        return total

    def _shared(self, inner: Factor) -> float:
        """What the kernels that act both here and within ``inner`` add to the mean of XᵀX·BᵀB, X without B's part."""
        total = 0.0
        for q in self.parts:
            for p in inner.parts:
                if p.name == q.name and q.kernel.variance > 0.0:
                    strength = q.kernel.variance * float(np.mean(q.inner.columns()))
                    crossed = float(np.mean(self.diagonal * q.coupling * inner.diagonal * p.coupling))
                    both = float(np.mean(q.coupling**2 * p.coupling**2))
                    if q.kernel.family is KernelFamily.HAAR:
                        both -= float(np.mean(q.coupling**2) * np.mean(p.coupling**2))
                    total += 2.0 * strength * crossed + strength**2 * both
        return total
