"""The limiting density of the singular values of the one-step Jacobian.

With G(z) the resolvent's trace (``resolvent``), the share of singular values below s > 0 is an integral up a line,

    F(s) = (2/π) ∫₀^∞ Re G(s + iy) dy,

where G is smooth: no smoothing of the density comes in, and F needs no derivative nor an integral over s.  In ln y
the integrand has its singularities π/2 away from the line, so the trapezoidal rule of step h errs by e^(−π²/h).
Densities are averages of F over bins, which is what a histogram shows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from critinit.distributions import Kernel
from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.roots import falling_root
from critinit.spec import InitSpec
from critinit.theory.parameters import has_identity
from critinit.theory.protocol import STEADY, Inputs, layers_below
from critinit.theory.spectrum.couplings import sampled_couplings, spectral_edge
from critinit.theory.spectrum.resolvent import Pencil, resolvents
from critinit.theory.tied.jacobian import Couplings

__all__ = ["Density", "SingularValues", "spectrum_density"]

_STEP = 0.9
"""Step of the trapezoidal rule in ln y: its error e^(−π²/.9) is 2e-5."""
_HIGHEST = 6.0
"""Height of the highest point of the line, in units of the root mean square: above it G is its expansion in 1/z."""
_TAIL = 40
"""Steps above it: the integrand falls as 1/y, so what is beyond is e^(−36)."""
_NEAR = 3e-4
"""How near the real axis the line begins, in units of the support's width: finer, nothing is to be seen."""
_EDGES = (1e-3, 1.0 - 1e-3)
"""Shares of the singular values below the two edges: .1 % are left out at each."""
_EXACT = 1e-3
"""Accuracy of the edges, in units of the scale at which they are sought."""
_RESOLVED = 0.1
"""A support this wide is resolved, in units of that scale; a narrower one is sought again, at its own scale."""
_NARROWEST = 1e-6
"""The smallest scale, in units of the root mean square: a support a thousandth as wide is one value."""
_MARGIN = 0.05
"""How far the bins reach beyond the edges, in units of their distance."""
_LEAST_MARGIN = 1e-6
"""The same where the edges meet, in units of the upper one."""


class SingularValues(ABC):
    """The distribution of the singular values of J.

    Attributes:
        first_moment: Mean of their squares.
        second_moment: Mean of their fourth powers.
    """

    first_moment: float
    second_moment: float

    @abstractmethod
    def cumulative(self, s: ArrayLike, resolution: float | None = None) -> tuple[Array, float]:
        """Return F(s), and the largest residual of the resolvents behind it; F is 0 for s ≤ 0.

        Args:
            s: Points, an array of any shape.
            resolution: How near the real axis the integral goes by points: values that are discrete, as those of units
                without a kernel, are resolved to this length.  None: 3e-4 of the support.
        """

    @abstractmethod
    def smoothed(self, s: ArrayLike, eta: float) -> Array:
        """Return the density convolved with a Cauchy distribution of half width ``eta``: −(2/π) Im G(s + i·eta)."""

    @cached_property
    def edges(self) -> tuple[float, float]:
        """The singular values that leave .1 % of all below, and above: the ends of the support where it is bounded."""
        root = math.sqrt(self.first_moment)
        if root == 0.0:
            return 0.0, 0.0
        scale, starts, step = root, (0.0, 0.0), 0.5 * root
        while True:
            low, high = (self._quantile(share, start, step, scale) for share, start in zip(_EDGES, starts, strict=True))
            if high - low >= _RESOLVED * scale or scale <= _NARROWEST * root:
                return low, high
            step = _RESOLVED * scale
            starts = max(0.0, low - step), max(0.0, high - step)
            scale = max(high - low, _NARROWEST * root)

    def _quantile(self, share: float, start: float, step: float, scale: float) -> float:
        """The singular value below which this share lies, sought from ``start`` on, to a thousandth of ``scale``."""

        def missing(s: float) -> float:
            return share - float(self.cumulative([s], _NEAR * scale)[0][0])

        return falling_root(missing, start, step, _EXACT * scale)


@dataclass(frozen=True)
class OfUnits(SingularValues):
    """The distribution of the singular values of J, given the couplings of P units of one group.

    Attributes:
        pencil: The matrix equation of the resolvent.
        first_moment: Mean of their squares.
        second_moment: Mean of their fourth powers.
    """

    pencil: Pencil
    first_moment: float
    second_moment: float

    @classmethod
    def of(cls, couplings: Couplings, kernels: Mapping[str, Kernel]) -> OfUnits:
        """Return the distribution for the couplings of units; raises ``ArgumentError`` as ``Pencil.of`` does."""
        factor = couplings.factor(kernels)
        return cls(Pencil.of(couplings, kernels), factor.first_moment(), factor.second_moment())

    def cumulative(self, s: ArrayLike, resolution: float | None = None) -> tuple[Array, float]:
        """Return F(s), and the largest residual of the resolvents behind it; F is 0 for s ≤ 0.

        Args:
            s: Points, an array of any shape.
            resolution: How near the real axis the integral goes by points: values that are discrete, as those of units
                without a kernel, are resolved to this length.  None: 3e-4 of the support.
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
        """Return the density convolved with a Cauchy distribution of half width ``eta``: −(2/π) Im G(s + i·eta)."""
        points = np.asarray(s, dtype=float)
        top = max(_HIGHEST * math.sqrt(self.first_moment), eta)
        heights = np.geomspace(top, eta, 2 + math.ceil(math.log(top / eta) / _STEP))
        trace = resolvents(self.pencil, points.ravel(), heights).trace[-1]
        return np.asarray(-2.0 / math.pi * trace.imag).reshape(points.shape)

    @cached_property
    def _resolution(self) -> float:
        low, high = self.edges
        return _NEAR * max(high - low, _NARROWEST * high)


@dataclass(frozen=True)
class OfGroups(SingularValues):
    """The distribution of a layer of groups of units, whose J is block diagonal.

    Attributes:
        shares: The share of the units of each group.
        parts: The distribution of each group.
        first_moment: Mean of the squares of all singular values.
        second_moment: Mean of their fourth powers.
    """

    shares: tuple[float, ...]
    parts: tuple[OfUnits, ...]
    first_moment: float
    second_moment: float

    def cumulative(self, s: ArrayLike, resolution: float | None = None) -> tuple[Array, float]:
        """Return F(s), the mean over groups, and the largest residual."""
        found = [part.cumulative(s, resolution) for part in self.parts]
        mean = sum(share * f for share, (f, _) in zip(self.shares, found, strict=True))
        return np.asarray(mean), max(residual for _, residual in found)

    def smoothed(self, s: ArrayLike, eta: float) -> Array:
        """Return the smoothed density, the mean over groups."""
        return np.asarray(
            sum(share * part.smoothed(s, eta) for share, part in zip(self.shares, self.parts, strict=True))
        )


def _of_groups(shares: Sequence[float], parts: Sequence[OfUnits]) -> SingularValues:
    """The distribution of a layer from those of its groups."""
    if len(parts) == 1:
        return parts[0]
    first, second = (
        sum(share * float(getattr(part, name)) for share, part in zip(shares, parts, strict=True))
        for name in ("first_moment", "second_moment")
    )
    return OfGroups(tuple(shares), tuple(parts), first, second)


@dataclass(frozen=True)
class Density:
    """The limiting density of the singular values, on bins.

    Attributes:
        bins: Bin boundaries, (n + 1,).
        cumulative: Share of the singular values below each boundary, (n + 1,).
        edges: Between them lie all singular values but .1 % at each end.
        mean: Mean of the SQUARED singular values.
        variance: Variance of the SQUARED singular values.
        spectral_edge: The largest real eigenvalue of J, where its eigenvalues end.
        residual: What is left of the self-consistency, relative.
        distribution: The distribution that the bins were taken from.
    """

    bins: Array
    cumulative: Array
    edges: tuple[float, float]
    mean: float
    variance: float
    spectral_edge: float
    residual: float
    distribution: SingularValues

    @property
    def singular_values(self) -> Array:
        """The middles of the bins, (n,)."""
        return 0.5 * (self.bins[1:] + self.bins[:-1])

    @property
    def density(self) -> Array:
        """Mean density of each bin, (n,)."""
        return np.asarray(np.diff(self.cumulative) / np.diff(self.bins))

    def averages(self, bins: ArrayLike, *, squares: bool = False) -> Array:
        """Return the mean density over a histogram's bins.

        Args:
            bins: Boundaries, (n + 1,).
            squares: Whether the boundaries are of the squared singular values, and so is the density.

        Returns:
            The density, (n,).

        Raises:
            ArgumentError: The bins do not ascend.
        """
        wanted = np.asarray(bins, dtype=float)
        if wanted.ndim != 1 or wanted.size < 2 or not np.all(np.diff(wanted) > 0.0):
            raise ArgumentError("bins", found="boundaries that do not ascend", allowed="two or more, ascending")
        roots = np.sqrt(np.maximum(wanted, 0.0)) if squares else wanted
        return np.asarray(np.diff(self.distribution.cumulative(roots)[0]) / np.diff(wanted))


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
    """Return the density of the singular values of one layer's one-step Jacobian.

    Of the LSTM it is the Jacobian of the memory at fixed output gate.  Only the couplings of units are sampled: where
    kernels mix the units the curve is smooth; where they hardly do (recurrent variances near 0, or a single orthogonal
    kernel) it has the noise of a histogram of as many units.  The same arguments give the same numbers.  It takes a few
    seconds: O(points·particles·snapshots·gates).

    Args:
        spec: The spec.
        layer: Index of the layer.
        weights: "tied" (one set of weights) or "untied" (drawn anew at every step).
        points: Bins between the edges.
        particles: Units that are sampled.
        snapshots: Times of the stationary state at which they are.
        seed: Seed of the random numbers.
        inputs: The course of the inputs in time.

    Raises:
        ArgumentError: An argument is out of its range, the cell has a projection, or an untied kernel is the identity.

    Example:
        >>> from critinit import generate
        >>> found = spectrum_density(generate("gru", T=20), points=4, particles=50, snapshots=1)
        >>> found.density.shape
        (4,)
    """
    if not 0 <= layer < len(spec.layers):
        raise ArgumentError("layer", found=str(layer), allowed=f"0 to {len(spec.layers) - 1}")
    if weights not in ("tied", "untied"):
        raise ArgumentError("weights", found=repr(weights), allowed="tied, untied")
    if points < 1:
        raise ArgumentError("points", found=str(points), allowed="at least 1")
    the_layer = spec.layers[layer]
    if the_layer.projection is not None:
        raise ArgumentError("cell", found=spec.cell, allowed="a cell without a projection, whose spectrum is known")
    if weights == "untied" and any(has_identity(group.gates) for group in the_layer.groups):
        raise ArgumentError("weights", found="untied", allowed="tied", hint="identity kernels have no untied reading")
    edge, parts = 0.0, []
    for number, (one, count) in enumerate(zip(the_layer.alone(), the_layer.split(particles), strict=True)):
        reduced = one.reduced()
        couplings = sampled_couplings(
            spec.find_cell(), reduced, T=spec.T, tied=weights == "tied", particles=count, snapshots=snapshots,
            seed=(seed, layer, number) if number else (seed, layer), inputs=inputs,
            below=layers_below(spec, layer) if weights == "tied" else (),
        )  # fmt: skip
        kernels = {name: gate.recurrent for name, gate in reduced.gates.items()}
        parts.append(OfUnits.of(couplings, kernels))
        edge = max(edge, spectral_edge(couplings, kernels))
    values = _of_groups([group.share for group in the_layer.groups], parts)
    low, high = values.edges
    margin = max(_MARGIN * (high - low), _LEAST_MARGIN * high, np.finfo(float).eps)
    bins = np.linspace(max(0.0, low - margin), high + margin, points + 1)
    cumulative, residual = values.cumulative(bins)
    m1, m2 = values.first_moment, values.second_moment
    return Density(bins, cumulative, (low, high), m1, max(m2 - m1**2, 0.0), edge, residual, values)
