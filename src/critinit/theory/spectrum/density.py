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
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.distributions import Kernel
from critinit.spec import InitSpec
from critinit.theory.parameters import has_identity
from critinit.theory.spectrum.resolvent import Pencil, resolvents
from critinit.theory.spectrum.couplings import sampled_couplings, spectral_edge
from critinit.theory.tied.inputs import STEADY, Inputs
from critinit.theory.tied.jacobian import Couplings

__all__ = ["Density", "SingularValues", "spectrum_density"]

_STEP = 0.9
_HIGHEST = 6.0
_TAIL = 40
_NEAR = 3e-4
_EDGE = 1e-3
"""Share of the singular values left out beyond each edge."""
_EXACT, _NARROWEST = 1e-3, 1e-9
_PARTS, _BLUR = 8, 3e-3


@dataclass(frozen=True)
class SingularValues:
    """The distribution of the singular values of J, given the couplings of P units."""

    pencil: Pencil
    first_moment: float
    second_moment: float

    @classmethod
    def of(cls, couplings: Couplings, kernels: Mapping[str, Kernel]) -> SingularValues:
        """Raises ``ArgumentError`` as ``Pencil.of`` does."""
        factor = couplings.factor(kernels)
        return cls(Pencil.of(couplings, kernels), factor.first_moment(), factor.second_moment())

    def cumulative(self, s: ArrayLike, resolution: float | None = None) -> tuple[Array, float]:
        """F(s), and the largest residual of the resolvents behind it; 0 for s ≤ 0.

        ``resolution``: how near the real axis the integral goes by points (default: 3e-4 of the support); what is
        discrete, as units without a kernel are, is told apart to this length.
        """
        points = np.asarray(s, dtype=float)
        root = math.sqrt(self.first_moment)
        if root == 0.0:
            return np.where(points > 0.0, 1.0, 0.0), 0.0
        flat, step = points[points > 0.0], _STEP
        near = resolution or self._resolution
        top = _HIGHEST * max(root, float(flat.max(initial=0.0)))
        heights = top * np.exp(-step * np.arange(math.ceil(math.log(top / near) / step) + 1))
        solved = resolvents(self.pencil, flat, heights)
        total = heights @ solved.trace.real
        # below the lowest height G is what it is there; above the highest it is its expansion in 1/z
        total += heights[-1] * solved.trace[-1].real / math.expm1(step)
        above = top * np.exp(step * np.arange(1.0, _TAIL + 1.0))[:, None]
        z = flat + 1j * above
        total += np.sum(above * (1.0 / z + self.first_moment / z**3 + self.second_moment / z**5).real, axis=0)
        below = np.zeros(points.shape)
        below[points > 0.0] = np.clip(2.0 / math.pi * step * total, 0.0, 1.0)
        return below, solved.residual

    def smoothed(self, s: ArrayLike, eta: float) -> Array:
        """The density convolved with a Cauchy distribution of half width ``eta``, reflected at 0: −(2/π) Im G(s + i·eta)."""
        points = np.asarray(s, dtype=float)
        top = max(_HIGHEST * math.sqrt(self.first_moment), eta)
        heights = np.geomspace(top, eta, 2 + math.ceil(math.log(top / eta) / _STEP))
        trace = resolvents(self.pencil, points.ravel(), heights).trace[-1]
        return np.asarray(-2.0 / math.pi * trace.imag).reshape(points.shape)

    @cached_property
    def _resolution(self) -> float:
        low, high = self.edges
        return _NEAR * max(high - low, _NARROWEST * high)

    @cached_property
    def edges(self) -> tuple[float, float]:
        """The singular values that leave .1 % of all below, and above: the ends of the support where it is bounded.

        To a thousandth of their distance, or 1e-9 where there is none.
        """
        root = math.sqrt(self.first_moment)
        if root == 0.0:
            return 0.0, 0.0
        high = root
        while self.cumulative([high], _NEAR * high)[0][0] < 1.0 - _EDGE:
            high *= 1.5
        brackets = [(0.0, high), (0.0, high)]
        while True:
            widest = max(high - low for low, high in brackets)
            if widest <= max(_EXACT * (brackets[1][1] - brackets[0][0]), _NARROWEST * high):
                break
            brackets = [self._narrowed(*b, share) for b, share in zip(brackets, (_EDGE, 1.0 - _EDGE), strict=True)]
        (low, _), (_, high) = brackets
        return low, high

    def _narrowed(self, low: float, high: float, share: float) -> tuple[float, float]:
        """The part of (low, high) where F passes ``share``."""
        ends = np.linspace(low, high, _PARTS + 1)
        below, _ = self.cumulative(ends[1:-1], _BLUR * (high - low))
        at = int(np.searchsorted(below, share))
        return float(ends[at]), float(ends[at + 1])


@dataclass(frozen=True)
class Density:
    """The limiting density on bins.

    ``bins`` (n + 1,): bin boundaries; ``cumulative`` (n + 1,): share of the singular values below each;
    ``edges``: between them lie all but .1 % at each end; ``mean``, ``variance``: of the SQUARED singular values;
    ``spectral_edge``: the largest real eigenvalue of J, where its eigenvalues end;
    ``residual``: what is left of the self-consistency, relative; ``params``: what it was taken from.
    """

    bins: Array
    cumulative: Array
    edges: tuple[float, float]
    mean: float
    variance: float
    spectral_edge: float
    residual: float
    params: SingularValues

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
        return np.asarray(np.diff(self.params.cumulative(roots)[0]) / np.diff(wanted))


def spectrum_density(
    spec: InitSpec,
    *,
    layer: int = 0,
    weights: Literal["tied", "untied"] = "tied",
    points: int = 60,
    particles: int = 1000,
    snapshots: int = 4,
    seed: int = 0,
    inputs: Inputs = STEADY,
) -> Density:
    """The density of the singular values of one layer's one-step Jacobian (of the LSTM's memory at fixed output gate).

    ``points``: bins between the edges; the couplings are those of ``particles`` units at ``snapshots`` times of the
    stationary state, and the only thing that is sampled: where kernels mix the units the curve is smooth, where they
    hardly do (recurrent variances near 0, or a single orthogonal kernel) it has the noise of a histogram of as many
    units.  The same arguments, the same numbers.  A few seconds; O(points·particles·snapshots·gates).
    Raises ``ArgumentError`` for arguments out of range, for cells with a projection, and for untied identity kernels, which have no reading.
    """
    if not 0 <= layer < len(spec.layers):
        raise ArgumentError(f"layer: found {layer}; allowed: 0 to {len(spec.layers) - 1}")
    if weights not in ("tied", "untied"):
        raise ArgumentError(f"weights: found {weights!r}; allowed: tied, untied")
    if points < 1:
        raise ArgumentError(f"points: found {points}; allowed: at least 1")
    the_layer = spec.layers[layer]
    if the_layer.projection is not None:
        raise ArgumentError(f"cell: found {spec.cell}; allowed: a cell without a projection, whose spectrum is known")
    if weights == "untied" and has_identity(the_layer.gates):
        raise ArgumentError("weights: identity kernels have no untied reading; allowed: tied")
    couplings = sampled_couplings(
        spec.find_cell(), the_layer, T=spec.T, tied=weights == "tied", particles=particles, snapshots=snapshots,
        seed=(seed, layer), inputs=inputs,
    )  # fmt: skip
    kernels = {name: gate.recurrent for name, gate in the_layer.gates.items()}
    params = SingularValues.of(couplings, kernels)
    low, high = params.edges
    margin = max(0.05 * (high - low), 1e-6 * high, 1e-12)
    bins = np.linspace(max(0.0, low - margin), high + margin, points + 1)
    cumulative, residual = params.cumulative(bins)
    m1, m2 = params.first_moment, params.second_moment
    edge = spectral_edge(couplings, kernels)
    return Density(bins, cumulative, (low, high), m1, max(m2 - m1**2, 0.0), edge, residual, params)
