"""Inputs of a layer's own, for the tied theory: Gaussian in time, through fixed input kernels.

Of infinitely many features a unit's U_k x(t) is a Gaussian process of covariance ν_k² R ρ(t − s), independent between
gates, where ρ is the inputs' correlation in time.  With the correlation a of one step, ρ(τ) = a^|τ|, and
x(t) = a·x(t − 1) + √(1 − a²)·fresh.

Of M features it is Σ_m U_kim x_m(t): the M processes x_m are the same for all gates of all units, and each unit has a
row U_ki of its own.  Given the inputs, units are independent, so averages over a population are those of an infinitely
wide network that reads this one sequence, and its recurrent signals are still the fields of ``fields``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from critinit.cells import EMBEDDED, Cell
from critinit.distributions import Kernel, NormalKernel
from critinit.dual import Array
from critinit.spec import Layer
from critinit.theory.protocol import Inputs

__all__ = ["Features", "OwnInputs", "SharedInputs"]

_AHEAD = 32
"""Steps whose inputs are drawn at once."""


class OwnInputs:
    """Inputs of infinitely many features, of P particles.

    Args:
        cell: The cell.
        layer: The layer, reduced.
        particles: P.
        rng: Random generator.
        inputs: The course of the inputs in time.
    """

    def __init__(self, cell: Cell, layer: Layer, particles: int, rng: np.random.Generator, inputs: Inputs) -> None:
        self._particles, self._rng, self._inputs, self._input = particles, rng, inputs, layer.input
        self._kept = layer.input.autocorrelation or 0.0
        self._feeds, self._vectors = _feeds(cell, layer)
        self._ahead: list[Array] = []
        self._last: Array | None = None
        self._first = self._drawn()

    def _drawn(self) -> dict[str, Array]:
        """U_k x for x of power 1: independent between gates, x itself through identity kernels."""
        if not self._ahead:
            z = self._rng.standard_normal((_AHEAD, self._vectors, self._particles))
            z -= z.mean(axis=2, keepdims=True)
            z /= np.sqrt(np.mean(z * z, axis=2, keepdims=True))
            self._ahead = list(z)
        z = self._ahead.pop()
        if self._kept:
            if self._last is not None:
                z = self._kept * self._last + math.sqrt(1.0 - self._kept**2) * z
            self._last = z
        return {name: gain * z[i] for name, (i, gain) in self._feeds.items()}

    def fed(self, t: int) -> dict[str, Array]:
        """Return U_k x of each gate at step t after the perturbation, and x itself where the cell embeds it."""
        root = self._inputs.scale(t, self._input.variance, self._input.padding_power)
        drawn = self._first if self._inputs.constant or root == 0.0 else self._drawn()
        return {name: root * x for name, x in drawn.items()}


def _feeds(cell: Cell, layer: Layer) -> tuple[dict[str, tuple[int, float]], int]:
    """Which of the standard normal vectors of a step each gate reads, times what; and how many vectors there are.

    Vector 0 is the input itself, which identity kernels pass on and an embedding cell reads as "input".
    """
    feeds, count = ({EMBEDDED: (0, 1.0)} if cell.embeds_input else {}), 1
    for name, gate in layer.gates.items():
        if gate.input.variance > 0:
            own = gate.input.reads_itself
            feeds[name] = (0 if own else count, math.sqrt(gate.input.variance))
            count += not own
    return feeds, count


@dataclass(frozen=True)
class Features:
    """A sequence of M features, the same for all that read it.

    Attributes:
        count: M.
        seed: Seed of the sequence.
    """

    count: int
    seed: int


class SharedInputs:
    """Inputs of M features that all gates of P particles read, each through a row of its own.

    Rows of an input kernel are drawn as networks draw them, so they have the distribution that the spec states, and the
    variance that it states; a cell that embeds what it reads does so by a normal matrix of variance 1.  The products of
    a normalized cell are normalized over the particles.

    Args:
        cell: The cell.
        layer: The layer, reduced.
        particles: P.
        rng: Random generator of the rows.
        inputs: The course of the inputs in time.
        features: The sequence.
    """

    def __init__(
        self, cell: Cell, layer: Layer, particles: int, rng: np.random.Generator, inputs: Inputs, features: Features
    ) -> None:
        self._inputs, self._input, self._particles, self._count = inputs, layer.input, particles, features.count
        self._kept = layer.input.autocorrelation or 0.0
        kernels: dict[str, Kernel] = {name: gate.input for name, gate in layer.gates.items() if gate.input.variance > 0}
        if cell.embeds_input:
            kernels[EMBEDDED] = NormalKernel(variance=1.0)
        self._gains = {name: math.sqrt(kernel.variance) for name, kernel in kernels.items()} if cell.normalized else {}
        self._names = tuple(kernels)
        rows = [_rows(kernel, particles, features.count, rng) for kernel in kernels.values()]
        self._rows = np.concatenate(rows) if rows else np.zeros((0, features.count))
        self._rng = np.random.default_rng(features.seed)
        self._ahead: list[Array] = []
        self._last: Array | None = None
        self._first = self._drawn()

    def _drawn(self) -> dict[str, Array]:
        """U_k x for x of power 1."""
        if not self._ahead:
            x = self._rng.standard_normal((_AHEAD, self._count))
            for step in x if self._kept else ():
                if self._last is not None:
                    step[:] = self._kept * self._last + math.sqrt(1.0 - self._kept**2) * step
                self._last = step
            self._ahead = list((x @ self._rows.T).reshape(_AHEAD, len(self._names), self._particles)[::-1])
        fed = dict(zip(self._names, self._ahead.pop(), strict=True))
        return {name: gain * _standardized(fed[name]) for name, gain in self._gains.items()} if self._gains else fed

    def fed(self, t: int) -> dict[str, Array]:
        """Return U_k x of each gate at step t after the perturbation, and the embedded x where the cell embeds it."""
        root = self._inputs.scale(t, self._input.variance, self._input.padding_power)
        drawn = self._first if self._inputs.constant or root == 0.0 else self._drawn()
        return {name: root * x for name, x in drawn.items()}


def _rows(kernel: Kernel, particles: int, features: int, rng: np.random.Generator) -> Array:
    """Rows of so many units, (particles, features), of the variance that is stated, whatever width divides it."""
    rows = kernel.sample(rng, particles, features)
    return rows * math.sqrt(kernel.variance / kernel.variance_at(particles, features))


def _standardized(x: Array) -> Array:
    """x over particles without its mean, of variance 1; 0 where it is the same everywhere."""
    deviation = float(x.std())
    return (x - x.mean()) / deviation if deviation > 0.0 else np.zeros_like(x)
