"""Time constants over the units of a layer, while there is input and while there is padding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critinit.distributions.numbers import LONGEST_TIME
from critinit.dual import Array, value
from critinit.errors import ArgumentError
from critinit.plotting.study import Study
from critinit.plotting.style import Theme, drawn, plain
from critinit.spec import InitSpec
from critinit.theory.quadrature import LOGISTIC_STRIP, rule_for
from critinit.theory.untied.solution import Untied

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["UnitTimes", "compute", "draw", "time_constants"]

_QUANTILES = 201
"""Points of the curve: one for each half percent of the units."""
_TAIL = 1e-3
"""Share of the units left out at either end where a distribution of biases has no end."""


@dataclass(frozen=True)
class UnitTimes:
    """τ = 1/(1 − E keep) of the unit at each ``quantile``, shortest first, in steps.

    ``informed``: under the layer's input; ``idle``: under inputs that carry no information, where these differ.
    """

    T: int
    quantile: Array
    informed: Array
    idle: Array | None

    def summary(self) -> str:
        """The picture in a sentence."""
        low, middle, high = (float(np.interp(q, self.quantile, self.informed)) for q in (0.0, 0.5, 1.0))
        while_idle = "" if self.idle is None else f"; while the input is padding up to {self.idle[-1]:.4g}"
        return f"Time constants from {low:.4g} over {middle:.4g} (the median) to {high:.4g} steps{while_idle}; T is {self.T}."


def time_constants(spec: InitSpec, *, layer: int = 0, dark: bool = False) -> Figure:
    """How long single units remember, over the units of a layer.

    Raises ``ArgumentError`` for a cell without a gate that keeps the state, and for identity kernels (untied theory).
    """
    found = compute(Study(spec, layer=layer))
    return drawn(lambda figure, theme: draw(found, figure, theme), dark=dark)


def compute(study: Study) -> UnitTimes:
    """Return 1/(1 − E keep) of each unit at the untied fixed point: the pre-activation's variance is σ²E m² + ν²R.

    While the input is padding, the fixed point is that of a layer which reads padding alone.
    """
    cell, layer = study.spec.find_cell(), study.layer
    if cell.keep_gate is None:
        raise ArgumentError("time constants", hint=f"{cell.name} has no gate that keeps the state")
    if study.solution is None:
        raise ArgumentError("time constants", hint="an identity kernel has no untied reading")
    gate = layer.gates[cell.keep_gate]
    quantile = np.linspace(0.0, 1.0, _QUANTILES)
    sign, bias = layer.gates.followed(cell.keep_gate)
    biases = bias.quantile(quantile)
    if not np.all(np.isfinite(biases)):  # tails without end
        biases = bias.quantile(np.clip(quantile, _TAIL, 1.0 - _TAIL))
    biases = np.sort(sign * biases)

    def times(state: Untied, power: float) -> Array:
        variance = gate.recurrent.variance * float(state.second_moment) + gate.input.variance * power
        z, w = rule_for(math.sqrt(variance), LOGISTIC_STRIP)
        kept = value(cell.keep({str(cell.keep_gate): biases[:, None] + math.sqrt(variance) * z}))
        return np.asarray(1.0 / np.maximum(1.0 - kept @ w, 1.0 / LONGEST_TIME))

    idle = None if study.idle is None else times(study.idle, layer.input.padding_power)
    return UnitTimes(study.spec.T, quantile, times(study.solution, layer.input.variance), idle)


def draw(found: UnitTimes, figure: Figure, theme: Theme) -> None:
    """The inverse distribution function: share of the units to the right, their time constant up."""
    axes = figure.add_subplot()
    plain(axes, theme)
    share = 100.0 * found.quantile
    every = len(share) // 10
    label = "with input" if found.idle is not None else None
    axes.plot(share, found.informed, color=theme.blue, marker="o", markersize=4, markevery=every, label=label)
    if found.idle is not None:
        axes.plot(
            share, found.idle, color=theme.orange, linestyle="--", marker="s", markersize=4, markevery=every,
            label="while the input is padding",
        )  # fmt: skip
        figure.legend(loc="outside lower center", ncols=2)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.9), max(high, 1.5 * found.T))
    axes.axhline(found.T, color=theme.ink, linewidth=1.2, linestyle=":")
    axes.annotate(f"T = {found.T}", (2, found.T), xytext=(0, 4), textcoords="offset points", ha="left")
    axes.set_xlim(0, 100)
    axes.set(xlabel="share of the units, %", ylabel="time constant, steps")
    axes.set_title("how long the units remember")
