"""What a simulated layer reads: Gaussian inputs of its own, or the states of a network below it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np

from critinit.dual import Array
from critinit.spec import Input
from critinit.theory.protocol import Inputs

if TYPE_CHECKING:
    from critinit.simulation.network import Network

__all__ = ["OwnInputs", "Source", "StatesBelow"]


class Source(Protocol):
    """Gives a layer its inputs, one stretch of steps after the other.

    Attributes:
        is_white: Whether inputs at different steps are independent, so that some may be left out.
    """

    is_white: bool

    def draw(self, steps: range) -> Array:
        """Return the inputs at these steps after the perturbation, (steps, copies, coordinates)."""
        ...


class OwnInputs:
    """Gaussian inputs of the power, the correlations and the course that are stated.

    Args:
        source: What is known of them.
        shape: Copies and coordinates.
        inputs: Their course in time.
        rng: Random generator.
    """

    def __init__(self, source: Input, shape: tuple[int, int], inputs: Inputs, rng: np.random.Generator) -> None:
        self._input, self._shape, self._inputs, self._rng = source, shape, inputs, rng
        self._kept = source.autocorrelation or 0.0
        self.is_white = self._kept == 0.0
        self._last: Array | None = None
        self._first = self._fresh(1)[0]

    def _fresh(self, count: int) -> Array:
        """Inputs of power 1, independent in time, (count, copies, coordinates)."""
        x = self._rng.standard_normal((count, *self._shape))
        if self._shape[0] == 2:
            c = self._input.correlation
            x[:, 1] = c * x[:, 0] + math.sqrt(1.0 - c * c) * x[:, 1]
        return x

    def _correlated(self, fresh: Array) -> Array:
        """Of correlation a from step to step: x(t) = a x(t − 1) + √(1 − a²)·fresh."""
        x = np.empty_like(fresh)
        for i, new in enumerate(fresh):
            last = self._last
            x[i] = new if last is None else self._kept * last + math.sqrt(1.0 - self._kept**2) * new
            self._last = x[i]
        return x

    def draw(self, steps: range) -> Array:
        """Return the inputs at these steps after the perturbation."""
        power = self._input
        root = np.array([self._inputs.scale(t, power.variance, power.padding_power) for t in steps])
        if self._inputs.constant:
            x = np.broadcast_to(self._first, (len(steps), *self._shape))
        else:
            x = self._fresh(len(steps))
            x = x if self.is_white else self._correlated(x)
        return np.asarray(x * root[:, None, None])


class StatesBelow:
    """The visible states of a network below, which goes on by a step for each.

    Args:
        network: The network below.
    """

    is_white = False

    def __init__(self, network: Network) -> None:
        self._network, self._state = network, network.rest()

    def draw(self, steps: range) -> Array:
        """Return the states at these steps after the perturbation."""
        found = []
        for external in self._network.external_inputs(steps.start, steps.stop):
            self._state, _ = self._network.step(self._state, external)
            found.append(self._state.h)
        return np.stack(found)
