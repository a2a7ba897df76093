"""The picture "singular values": how one step stretches the state, measured on networks and predicted by theory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critinit.cells import Cell
from critinit.dual import Array
from critinit.plotting.study import Study
from critinit.plotting.style import Theme, new_figure, style_axes
from critinit.spec import InitSpec
from critinit.theory.spectrum.density import spectrum_density

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Spectrum", "compute", "draw", "singular_values"]

_BINS = 40
"""Bins of the histogram: 20 values a bin with the default 4 networks of 200 units."""
_NARROWEST = 1e-6
"""Least width of all bins together: less is rounding."""
_OFFSET_BELOW = 1e-3
"""Width of the axis below which its numbers are differences from the mean: they would be alike in all shown digits."""


@dataclass(frozen=True)
class Spectrum:
    """Squared singular values of the one-step Jacobian.

    Attributes:
        squares: Those measured on networks with tied weights, all networks together, ascending.
        mean: The mean that the tied theory predicts.
        variance: The variance that the tied theory predicts.
        bins: Boundaries of the histogram's bins, (bins + 1,).
        density: The predicted density, averaged over each bin, (bins,); None where theory has none (``has_density``).
        networks: Number of networks.
        width: Units of each.
    """

    squares: Array
    mean: float
    variance: float
    bins: Array
    density: Array | None
    networks: int
    width: int

    def summary(self) -> str:
        """Return the picture in a sentence."""
        return (
            f"Squared singular values of {self.networks} networks of {self.width} units: "
            f"mean {self.squares.mean():.4g} and variance {self.squares.var():.3g}; "
            f"theory predicts {self.mean:.4g} and {self.variance:.3g}."
        )


def singular_values(
    spec: InitSpec, *, layer: int = 0, width: int = 200, networks: int = 4, seed: int = 0, dark: bool = False
) -> Figure:
    """Return a histogram of the squared singular values of one step, with the prediction of the tied theory.

    Theory and networks are sampled, which takes a few seconds.

    Args:
        spec: The spec.
        layer: The layer's number, from 0.
        width: Units of each simulated network.
        networks: How many networks are simulated.
        seed: Seed of everything that is drawn.
        dark: Whether the figure is for a dark page.

    Raises:
        ArgumentError: An argument is out of its range.
        MissingExtraError: matplotlib is not installed.
    """
    data = compute(Study(spec, layer=layer, width=width, networks=networks, seed=seed))
    return new_figure(lambda figure, theme: draw(data, figure, theme), dark=dark)


def has_density(cell: Cell) -> bool:
    """Return whether theory has a density of the cell's singular values.

    It has none where the kernels read a projection, or where two messages are scaled ahead of their kernels.
    """
    return not cell.projects and len(cell.before) <= 1


def compute(study: Study) -> Spectrum:
    """Return what is measured and what is predicted."""
    measured, predicted = study.measured("tied"), study.tied_numbers.jacobian
    assert measured is not None  # only untied weights can lack a measurement
    assert measured.singular_values is not None  # the study asks for them
    squares = np.sort(measured.singular_values.ravel() ** 2)
    mean, variance = predicted.mean_squared_singular_value, max(predicted.variance, 0.0)
    deviation = math.sqrt(variance)
    low = min(float(squares[0]), mean - deviation)
    high = max(float(squares[-1]), mean + deviation, low + _NARROWEST)
    bins = np.linspace(low, high, _BINS + 1)
    density = None
    if has_density(study.cell):
        found = spectrum_density(study.spec, layer=study.index, seed=study.seed)
        density = found.averages(bins, squares=True)
    return Spectrum(squares, mean, variance, bins, density, study.networks, study.width)


def draw(data: Spectrum, figure: Figure, theme: Theme) -> None:
    """Draw the histogram, the predicted density over it, both means as lines, and the predicted deviation as a bar."""
    axes = figure.add_subplot()
    style_axes(axes, theme)
    deviation = math.sqrt(data.variance)
    heights, edges = np.histogram(data.squares, bins=data.bins, density=True)
    axes.stairs(heights, edges, fill=True, color=theme.blue, alpha=0.3)
    axes.stairs(heights, edges, color=theme.blue, label=f"{data.networks} networks of {data.width} units")
    top = float(max(heights.max(), 0.0 if data.density is None else data.density.max()))
    axes.axvline(
        float(data.squares.mean()), color=theme.ink, linestyle=":", zorder=4,
        label=f"networks: mean {data.squares.mean():.4g}",
    )  # fmt: skip
    axes.axvline(data.mean, color=theme.orange, linewidth=2, label=f"theory: mean {data.mean:.4g}")
    axes.errorbar(
        [data.mean], [1.08 * top], xerr=[deviation], color=theme.orange, linewidth=1.5, capsize=5, marker="D",
        linestyle="none", label=f"theory: mean ± deviation {deviation:.3g}",
    )  # fmt: skip
    if data.density is not None:
        axes.stairs(data.density, edges, color=theme.orange, linewidth=1.5, linestyle="--", label="theory: density")
    axes.set_ylim(0, 1.18 * top)
    if data.bins[-1] - data.bins[0] < _OFFSET_BELOW:
        axes.ticklabel_format(axis="x", useOffset=data.mean)
    axes.set(xlabel="squared singular value", ylabel="density")
    axes.set_title("squared singular values of one step's Jacobian")
    figure.legend(loc="outside lower center", ncols=2)
