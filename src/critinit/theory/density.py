"""The limiting density of the singular values of the one-step Jacobian.

With G(z) the resolvent's trace (``resolvent``), the share of singular values below s > 0 is an integral up a line,

    F(s) = (2/π) ∫₀^∞ Re G(s + iy) dy,

where G is smooth: no smoothing of the density comes in, and F needs no derivative nor an integral over s.  In ln y
the integrand has its singularities π/2 away from the line, so the trapezoidal rule of step h errs by e^(−π²/h).
Densities are averages of F over bins, which is what a histogram shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.spec import InitSpec, Kernel
from critinit.theory.laws import has_identity
from critinit.theory.resolvent import Pencil, resolvents
from critinit.theory.sampled_couplings import sampled_couplings
from critinit.theory.tied_inputs import STEADY, Inputs
from critinit.theory.tied_jacobian import Couplings

__all__ = ["Density", "SingularValues", "spectrum_density"]

_STEP = 0.7
_HIGHEST = 8.0
_LOWEST = 1e-4
_TAIL = 40
_EDGE = 1e-3
"""Share of the singular values left out beyond each edge."""
_DIGITS = 1e-4


@dataclass(frozen=True)
class SingularValues:
    """The law of the singular values of J, given the couplings of P units."""

    pencil: Pencil
    first_moment: float
    second_moment: float

    @classmethod
    def of(cls, couplings: Couplings, kernels: Mapping[str, Kernel]) -> SingularValues:
        """Raises ``ArgumentError`` as ``Pencil.of`` does."""
        factor = couplings.factor(kernels)
        return cls(Pencil.of(couplings, kernels), factor.first_moment(), factor.second_moment())

    def cumulative(self, s: ArrayLike) -> tuple[Array, float]:
        """F(s), and the largest residual of the resolvents behind it; 0 for s ≤ 0."""
        points = np.asarray(s, dtype=float)
        flat = points[points > 0.0]
        root = math.sqrt(self.first_moment)
        if root == 0.0 or not flat.size:
            return np.where(points >= 0.0, 1.0, 0.0) if root == 0.0 else np.zeros(points.shape), 0.0
        top = _HIGHEST * max(root, float(flat.max()))
        count = math.ceil(math.log(top / (_LOWEST * root)) / _STEP)
        heights = top * np.exp(-_STEP * np.arange(count + 1))
        solved = resolvents(self.pencil, flat, heights)
        total = heights @ solved.trace.real
        # below the lowest height G is what it is there; above the highest it is its expansion in 1/z
        total += heights[-1] * solved.trace[-1].real / math.expm1(_STEP)
        above = top * np.exp(_STEP * np.arange(1.0, _TAIL + 1.0))[:, None]
        z = flat + 1j * above
        total += np.sum(above * (1.0 / z + self.first_moment / z**3 + self.second_moment / z**5).real, axis=0)
        below = np.zeros(points.shape)
        below[points > 0.0] = np.clip(2.0 / math.pi * _STEP * total, 0.0, 1.0)
        return below, solved.residual

    def smoothed(self, s: ArrayLike, eta: float) -> Array:
        """The density convolved with a Cauchy law of half width ``eta``, reflected at 0: −(2/π) Im G(s + i·eta)."""
        points = np.asarray(s, dtype=float)
        top = max(_HIGHEST * math.sqrt(self.first_moment), eta)
        heights = np.geomspace(top, eta, 2 + math.ceil(math.log(top / eta) / _STEP))
        trace = resolvents(self.pencil, points.ravel(), heights).trace[-1]
        return np.asarray(-2.0 / math.pi * trace.imag).reshape(points.shape)

    def edges(self, share: float = _EDGE) -> tuple[float, float]:
        """The singular values that have ``share`` of all below, and above: the ends of the support where it is bounded.

        To four digits of the distance between them, or of the root of the first moment.
        """
        root = math.sqrt(self.first_moment)
        if root == 0.0:
            return 0.0, 0.0
        high = root
        while self.cumulative([high])[0][0] < 1.0 - share:
            high *= 1.5
        bracket = np.array([[0.0, high], [0.0, high]])
        for _ in range(40):
            inner = np.linspace(bracket[:, 0], bracket[:, 1], 10)[1:-1].T
            below = self.cumulative(inner)[0]
            for row, wanted in enumerate((share, 1.0 - share)):
                at = int(np.searchsorted(below[row], wanted))
                ends = np.concatenate([bracket[row, :1], inner[row], bracket[row, 1:]])
                bracket[row] = ends[at], ends[at + 1]
            width = float(np.max(bracket[:, 1] - bracket[:, 0]))
            if width <= _DIGITS * max(bracket[1, 1] - bracket[0, 0], _DIGITS * root):
                break
        low, high = bracket.mean(axis=1)
        return float(low), float(high)


@dataclass(frozen=True)
class Density:
    """The limiting density on bins.

    ``bins`` (n + 1,): bin boundaries; ``cumulative`` (n + 1,): share of the singular values below each;
    ``edges``: between them lie all but .1 % at each end; ``mean``, ``variance``: of the SQUARED singular values;
    ``residual``: what is left of the self-consistency, relative; ``law``: what it was taken from.
    """

    bins: Array
    cumulative: Array
    edges: tuple[float, float]
    mean: float
    variance: float
    residual: float
    law: SingularValues

    @property
    def singular_values(self) -> Array:
        """The middles of the bins, (n,)."""
        return 0.5 * (self.bins[1:] + self.bins[:-1])

    @property
    def density(self) -> Array:
        """Mean density of each bin, (n,)."""
        return np.asarray(np.diff(self.cumulative) / np.diff(self.bins))

    def averages(self, bins: ArrayLike, *, squares: bool = False) -> Array:
        """Mean density of the singular values, or of their squares, over a histogram's bins, (n,) from (n + 1,).

        Raises ``ArgumentError`` unless the bins ascend.
        """
        wanted = np.asarray(bins, dtype=float)
        if wanted.ndim != 1 or wanted.size < 2 or not np.all(np.diff(wanted) > 0.0):
            raise ArgumentError("bins: found boundaries that do not ascend; allowed: two or more, ascending")
        roots = np.sqrt(np.maximum(wanted, 0.0)) if squares else wanted
        return np.asarray(np.diff(self.law.cumulative(roots)[0]) / np.diff(wanted))


def spectrum_density(
    spec: InitSpec,
    *,
    layer: int = 0,
    weights: Literal["tied", "untied"] = "tied",
    points: int = 80,
    particles: int = 1000,
    snapshots: int = 4,
    seed: int = 0,
    inputs: Inputs = STEADY,
) -> Density:
    """The density of the singular values of one layer's one-step Jacobian (of the LSTM's memory at fixed output gate).

    ``points``: bins between the edges; the couplings are those of ``particles`` units at ``snapshots`` times of the
    stationary state.  The same arguments, the same numbers.  A few seconds.
    Raises ``ArgumentError`` for arguments out of range, and for untied identity kernels, which have no reading.
    """
    if not 0 <= layer < len(spec.layers):
        raise ArgumentError(f"layer: found {layer}; allowed: 0 to {len(spec.layers) - 1}")
    if weights not in ("tied", "untied"):
        raise ArgumentError(f"weights: found {weights!r}; allowed: tied, untied")
    for name, number, least in (("points", points, 1), ("particles", particles, 2), ("snapshots", snapshots, 1)):
        if number < least:
            raise ArgumentError(f"{name}: found {number}; allowed: at least {least}")
    the_layer = spec.layers[layer]
    if weights == "untied" and has_identity(the_layer.gates):
        raise ArgumentError("weights: identity kernels have no untied reading; allowed: tied")
    couplings = sampled_couplings(
        spec.find_cell(), the_layer, T=spec.T, tied=weights == "tied", particles=particles, snapshots=snapshots,
        seed=(seed, layer), inputs=inputs,
    )  # fmt: skip
    law = SingularValues.of(couplings, {name: gate.recurrent for name, gate in the_layer.gates.items()})
    low, high = law.edges()
    margin = max(0.05 * (high - low), 1e-6 * high, 1e-12)
    bins = np.linspace(max(0.0, low - margin), high + margin, points + 1)
    cumulative, residual = law.cumulative(bins)
    m1, m2 = law.first_moment, law.second_moment
    return Density(bins, cumulative, (low, high), m1, m2 - m1**2, residual, law)
