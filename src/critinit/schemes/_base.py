"""What a scheme is: a function from a layer's circumstances to its gates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from critinit.cells import Cell
from critinit.dual import sigmoid
from critinit.errors import ArgumentError
from critinit.theory.quadrature import LOGISTIC_STRIP, rule_for

__all__ = [
    "PROJECTION_WIDTH",
    "Circumstances",
    "Parts",
    "Scheme",
    "bias",
    "drive",
    "gate",
    "keep_bias",
    "kernel",
    "near_zero",
    "needs_keep_gate",
]

Parts = dict[str, Any]
"""A gate, or a part of one, as the JSON of an InitSpec has it."""


@dataclass(frozen=True)
class Circumstances:
    """What is known where a layer is initialized.

    ``T``: sequence length in steps; ``input_variance`` R and ``null_variance`` R₀: second moment per coordinate of the
    layer's inputs, and of those that carry no information; ``noise``: R₀, or 0 where it is only taken to be R, and
    where the latter are all alike; ``correlation`` of the inputs between two copies;
    ``index`` of the layer; ``hidden_size`` H and ``input_size`` M where they are known.
    """

    cell: Cell
    T: int
    input_variance: float
    correlation: float
    null_variance: float
    noise: float
    index: int
    hidden_size: int | None
    input_size: int | None

    def orthogonal(self) -> Parts:
        """A recurrent kernel of gain 1: orthogonal where it is square, else normal of the same variance."""
        return kernel("normal" if self.cell.projects else "orthogonal", 1.0)

    def drive(self, variance: float) -> float:
        """The input kernel's ν² that gives the pre-activation this variance: ν²R (R = 0 counts as 1)."""
        return drive(variance, self.input_variance)


def drive(variance: float, power: float) -> float:
    """ν² = variance/power; no power counts as 1, and less than a spec can answer (1e-100) stays a finite number."""
    return variance / max(power, 1e-200) if power > 0.0 else variance


PROJECTION_WIDTH = 0.5
"""Coordinates per unit where nothing is said."""


def projection(at: Circumstances) -> Parts:
    """A projection that keeps the second moment: orthonormal rows."""
    return {"kernel": kernel("orthogonal", 1.0), "width": PROJECTION_WIDTH}


@dataclass(frozen=True)
class Scheme:
    """A named way to choose the gates of a layer.

    ``gates(circumstances)`` returns every gate of the cell, ``projection(circumstances)`` its projection; ``target``: what it wants, quantity and value, or None.
    """

    name: str
    summary: str
    gates: Callable[[Circumstances], Mapping[str, Parts]]
    target: Literal["time_scale", "unit_time_constant"] | None = None
    projection: Callable[[Circumstances], Parts] = projection


def kernel(distribution: str, variance: float) -> Parts:
    """A kernel's part."""
    return {"distribution": distribution, "variance": float(variance)}


def bias(mean: float, variance: float = 0.0) -> Parts:
    """A bias that is constant, or normal where it has a variance."""
    return {
        "distribution": "normal" if variance else "constant",
        "mean": float(mean),
        "variance": float(variance),
    }


def gate(recurrent: Parts, input: Parts, bias: Parts) -> Parts:
    """A whole gate."""
    return {"recurrent": recurrent, "input": input, "bias": bias}


def keep_bias(leak: float, variance: float, *, squared: bool = False) -> float:
    """The bias b at which a keep gate f = σ(b + √variance·z) leaks that much: E(1 − f), or E(1 − f²) if ``squared``.

    ``leak`` is between 0 and 1; the leak falls as b grows, so bisection finds it, to 1e-12.
    """
    z, w = rule_for(math.sqrt(variance), LOGISTIC_STRIP)

    def leaks(b: float) -> float:
        g = sigmoid(-(b + math.sqrt(variance) * z))
        return float((g * (2.0 - g) if squared else g) @ w)

    low, high = -50.0 - variance, 60.0 + variance
    for _ in range(80):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if leaks(middle) > leak else (low, middle)
    return 0.5 * (low + high)


def near_zero(T: int) -> float:
    """A recurrent variance "near zero": what the kernels add to χ in one step, summed over T steps, is below 1 %."""
    return min(1e-5, 0.01 / T)


def needs_keep_gate(scheme: str, cell: Cell) -> str:
    """The keep gate; raises ``ArgumentError`` for cells without one, or with one that keeps otherwise than sigmoid(u)."""
    if cell.keep_gate is None:
        raise ArgumentError(
            f"scheme: {scheme} sets the bias of the gate that keeps the state, and {cell.name} has none"
        )
    if not cell.is_logistic:
        raise ArgumentError(
            f"scheme: {scheme} makes time constants of a keep gate that is sigmoid(u), and {cell.name} keeps otherwise"
        )
    return cell.keep_gate
