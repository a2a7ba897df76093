"""What the two engines that follow a network through time share: the inputs' course in time, and biases drawn by unit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from critinit.cells import Cell
from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.distributions import Bias, CoupledBias
from critinit.spec import Gates

__all__ = ["STEADY", "Inputs", "draw_biases", "longest_time"]

_SEEN_TIME = 1e9
"""Steps: longer memories than a simulation can follow are all alike to it."""


@dataclass(frozen=True)
class Inputs:
    """The course of the inputs in time.

    ``constant``: one input that stays, instead of one drawn anew at every step.
    ``off_after``: so many steps after the perturbation the inputs fall from power ``input.variance`` to
    that of the padding; before the perturbation they are always on.
    Raises ``ArgumentError`` for a negative ``off_after``.
    """

    constant: bool = False
    off_after: int | None = None

    def __post_init__(self) -> None:
        if self.off_after is not None and self.off_after < 0:
            raise ArgumentError(f"off_after: found {self.off_after}; allowed: 0 or more steps")

    def scale(self, t: int, on: float, padding: float) -> float:
        """Root of the inputs' power at step ``t`` after the perturbation (negative before it)."""
        off = self.off_after is not None and t >= self.off_after
        return math.sqrt(padding if off else on)


STEADY = Inputs()
"""Drawn anew at every step, for ever."""


def draw_biases(gates: Gates, count: int, uniform: Callable[[Bias], Array]) -> dict[str, Array]:
    """Return one bias per unit and gate, (count,) each, coupled ones following theirs.

    ``uniform(bias)`` gives U(0, 1) numbers for ``count`` units; it is asked in the gates' order, where units differ.
    """

    def drawn(bias: Bias) -> Array:
        return bias.quantile(uniform(bias) if bias.is_random else np.zeros(count))

    biases = {name: gate.bias for name, gate in gates.items()}
    own = {name: drawn(bias) for name, bias in biases.items() if not isinstance(bias, CoupledBias)}
    return {n: b.sign * own[b.to] if isinstance(b, CoupledBias) else own[n] for n, b in biases.items()}


def longest_time(cell: Cell, gates: Gates) -> float:
    """Return the longest time constant 1 + e^b, in steps, that the keep gate's bias gives a unit."""
    if cell.keep_gate is None:
        return 1.0
    sign, bias = gates.followed(cell.keep_gate)
    low, high = bias.extremes
    return 1.0 + math.exp(min(max(sign * low, sign * high), math.log(_SEEN_TIME)))
