"""The picture "time constants": how long the units of a layer remember, with input and while the input is padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.plotting.study import QUANTILES, Study
from critinit.plotting.style import Theme, new_figure, style_axes
from critinit.spec import InitSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["TimeConstantCurves", "compute", "draw", "time_constants"]

_MARKERS = 10
"""Markers along a curve: enough to tell two curves apart without colour."""


@dataclass(frozen=True)
class TimeConstantCurves:
    """The time constant of the unit at each quantile, shortest first, in steps.

    Attributes:
        T: Sequence length in steps.
        quantile: Share of the units that forget sooner, from 0 to 1.
        informed: Time constants under the layer's input.
        padded: Time constants while the input is padding; None where padding is unknown or as strong as the input.
    """

    T: int
    quantile: Array
    informed: Array
    padded: Array | None

    def summary(self) -> str:
        """Return the picture in a sentence."""
        low, middle, high = (float(np.interp(q, self.quantile, self.informed)) for q in (0.0, 0.5, 1.0))
        padded = "" if self.padded is None else f"; while the input is padding, the longest is {self.padded[-1]:.4g}"
        return (
            f"Time constants: shortest {low:.4g} steps, median {middle:.4g}, longest {high:.4g}{padded}; T is {self.T}."
        )


def time_constants(spec: InitSpec, *, layer: int = 0, dark: bool = False) -> Figure:
    """Return a figure of the time constants over the units of a layer.

    Args:
        spec: The spec.
        layer: The layer's number, from 0.
        dark: Whether the figure is for a dark page.

    Raises:
        ArgumentError: The cell has no gate that keeps the state, or a recurrent kernel is the identity.
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> from critinit import generate
        >>> time_constants(generate("gru", T=50)).axes[0].get_ylabel()
        'time constant, steps'
    """
    data = compute(Study(spec, layer=layer))
    return new_figure(lambda figure, theme: draw(data, figure, theme), dark=dark)


def compute(study: Study) -> TimeConstantCurves:
    """Return the time constants at the stationary state of the untied theory.

    Raises:
        ArgumentError: The cell has no gate that keeps the state, or a recurrent kernel is the identity.
    """
    if study.cell.keep_gate is None:
        raise ArgumentError("time constants", hint=f"{study.cell.name} has no gate that keeps the state")
    return TimeConstantCurves(study.spec.T, QUANTILES, study.times(), study.padded_times())


def draw(data: TimeConstantCurves, figure: Figure, theme: Theme) -> None:
    """Draw the units from left to right, ordered by time constant; a dotted line marks T."""
    axes = figure.add_subplot()
    style_axes(axes, theme)
    share = 100.0 * data.quantile
    every = len(share) // _MARKERS
    axes.plot(share, data.informed, color=theme.blue, marker="o", markersize=4, markevery=every, label="with input")
    if data.padded is not None:
        axes.plot(
            share, data.padded, color=theme.orange, linestyle="--", marker="s", markersize=4, markevery=every,
            label="while the input is padding",
        )  # fmt: skip
        figure.legend(loc="outside lower center", ncols=2)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.9), max(high, 1.5 * data.T))
    axes.axhline(data.T, color=theme.ink, linewidth=1.2, linestyle=":")
    axes.annotate(f"T = {data.T}", (2, data.T), xytext=(0, 4), textcoords="offset points", ha="left")
    axes.set_xlim(0, 100)
    axes.set(xlabel="share of the units that forget sooner, %", ylabel="time constant, steps")
    axes.set_title("how long the units remember")
