"""Inputs of a layer's own, for the tied theory: Gaussian over units, through fixed input kernels.

A unit's U_k x(t) is a Gaussian process of covariance ν_k² R ρ(t − s), independent between gates, where ρ is the inputs'
correlation in time.  With the correlation a of one step, ρ(τ) = a^|τ|, and x(t) = a·x(t − 1) + √(1 − a²)·fresh.
"""

from __future__ import annotations

import math

import numpy as np

from critinit.cells import EMBEDDED, Cell
from critinit.dual import Array
from critinit.spec import Layer
from critinit.theory.protocol import Inputs

__all__ = ["OwnInputs"]

_AHEAD = 32
"""Steps whose inputs are drawn at once."""


class OwnInputs:
    """Inputs of P particles.

    Args:
        cell: The cell.
        layer: The layer.
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
