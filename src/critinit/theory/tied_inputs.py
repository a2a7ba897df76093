"""What the two engines that follow a network through time share: the inputs' course in time, and biases drawn by unit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from critinit.cells import Cell
from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.spec import Bias, ConstantBias, CoupledBias, Gates, NormalBias, SpreadBias
from critinit.spec.distributions import bias_of_quantile

__all__ = ["STEADY", "Inputs", "draw_biases", "longest_time"]

_SEEN_TIME = 1e9


@dataclass(frozen=True)
class Inputs:
    """The course of the inputs in time.

    ``constant``: one input that stays, instead of one drawn anew at every step.
    ``off_after``: so many steps after the perturbation the inputs fall from power ``input.variance`` to
    ``input.null_variance`` (padding); before the perturbation they are always on.
    Raises ``ArgumentError`` for a negative ``off_after``.
    """

    constant: bool = False
    off_after: int | None = None

    def __post_init__(self) -> None:
        if self.off_after is not None and self.off_after < 0:
            raise ArgumentError(f"off_after: found {self.off_after}; allowed: 0 or more steps")

    def scale(self, t: int, on: float, null: float) -> float:
        """Root of the inputs' power at step ``t`` after the perturbation (negative before it)."""
        off = self.off_after is not None and t >= self.off_after
        return math.sqrt(null if off else on)


STEADY = Inputs()
"""Drawn anew at every step, for ever."""


def draw_biases(
    gates: Gates, count: int, normal: Callable[[], Array], uniform: Callable[[], Array]
) -> dict[str, Array]:
    """One bias per unit and gate, (count,) each, coupled ones following theirs.

    ``normal()`` gives N(0, 1) and ``uniform()`` U(0, 1) numbers for ``count`` units, asked for in the gates' order.
    """
    zero = np.zeros(count)
    biases = {name: gate.bias for name, gate in gates.items()}
    own = {n: _draw(b, zero, normal, uniform) for n, b in biases.items() if not isinstance(b, CoupledBias)}
    return {n: b.sign * own[b.to] if isinstance(b, CoupledBias) else own[n] for n, b in biases.items()}


def _draw(bias: Bias, zero: Array, normal: Callable[[], Array], uniform: Callable[[], Array]) -> Array:
    if isinstance(bias, NormalBias):
        return bias.mean + math.sqrt(bias.variance) * normal()
    if isinstance(bias, SpreadBias):
        return bias_of_quantile(bias.distribution, bias.min_time, bias.max_time, uniform())
    assert isinstance(bias, ConstantBias)
    return zero + bias.mean


def longest_time(cell: Cell, gates: Gates) -> float:
    """The longest time constant 1 + e^b that the keep gate's bias gives a unit (two deviations out where normal)."""
    if cell.keep_gate is None:
        return 1.0
    bias: Bias = gates[cell.keep_gate].bias
    sign = 1
    if isinstance(bias, CoupledBias):
        sign, bias = bias.sign, gates[bias.to].bias
    if isinstance(bias, SpreadBias):
        extreme = math.log((bias.max_time if sign > 0 else bias.min_time) - 1.0)
    else:
        mean, variance = bias.mean, bias.variance
        extreme = sign * (mean or 0.0) + 2.0 * math.sqrt(variance or 0.0)
        return 1.0 + math.exp(min(extreme, math.log(_SEEN_TIME)))
    return 1.0 + math.exp(min(sign * extreme, math.log(_SEEN_TIME)))
