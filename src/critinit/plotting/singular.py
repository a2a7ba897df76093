"""Squared singular values of the one-step Jacobian: measured on networks, with what the theory predicts of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.plotting.study import Study
from critinit.plotting.style import Theme, drawn, plain
from critinit.spec import InitSpec
from critinit.theory.spectrum.density import spectrum_density

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Spectrum", "compute", "draw", "singular_values"]

_BINS = 40


@dataclass(frozen=True)
class Spectrum:
    """``squares``: measured squared singular values, all networks together; ``mean``, ``variance``: predicted.

    ``bins`` (n + 1,): those of the histogram; ``density`` (n,): the limiting density averaged over each, None where
    theory has none (``theory.density`` says where).
    """

    squares: Array
    mean: float
    variance: float
    bins: Array
    density: Array | None
    networks: int
    width: int

    def summary(self) -> str:
        """The picture in a sentence."""
        return (
            f"Squared singular values of {self.networks} networks of {self.width} units: mean {self.squares.mean():.4g} "
            f"and variance {self.squares.var():.3g}; the theory predicts {self.mean:.4g} and {self.variance:.3g}."
        )


def singular_values(
    spec: InitSpec, *, layer: int = 0, width: int = 200, networks: int = 4, seed: int = 0, dark: bool = False
) -> Figure:
    """Histogram of the squared singular values of the Jacobian of networks with tied weights, and the prediction.

    The prediction is that of the tied theory (sampled, a few seconds).
    """
    found = compute(Study(spec, layer=layer, width=width, networks=networks, seed=seed))
    return drawn(lambda figure, theme: draw(found, figure, theme), dark=dark)


def compute(study: Study) -> Spectrum:
    """Measure and predict."""
    measured, predicted = study.measured("tied"), study.numbers("tied")
    assert measured is not None  # tied weights have a reading always
    assert measured.singular_values is not None
    assert predicted is not None
    squares = np.sort(measured.singular_values.ravel() ** 2)
    mean, variance = predicted.jacobian.mean_squared_singular_value, max(predicted.jacobian.variance, 0.0)
    deviation = math.sqrt(variance)
    low = min(float(squares[0]), mean - deviation)
    high = max(float(squares[-1]), mean + deviation, low + 1e-6)
    bins = np.linspace(low, high, _BINS + 1)
    try:
        density = spectrum_density(study.spec, layer=study.index, seed=study.seed).averages(bins, squares=True)
    except ArgumentError:
        density = None
    return Spectrum(squares, mean, variance, bins, density, study.networks, study.width)


def draw(found: Spectrum, figure: Figure, theme: Theme) -> None:
    """A histogram and the predicted density; the predicted mean as a line, the standard deviation as a bar above it."""
    axes = figure.add_subplot()
    plain(axes, theme)
    deviation = math.sqrt(found.variance)
    heights, edges = np.histogram(found.squares, bins=found.bins, density=True)
    axes.stairs(heights, edges, fill=True, color=theme.blue, alpha=0.3)
    axes.stairs(heights, edges, color=theme.blue, label=f"{found.networks} networks of {found.width} units")
    top = float(max(heights.max(), 0.0 if found.density is None else found.density.max()))
    axes.axvline(found.mean, color=theme.orange, linewidth=2, label=f"theory: mean {found.mean:.4g}")
    axes.errorbar(
        [found.mean], [1.08 * top], xerr=[deviation], color=theme.orange, linewidth=1.5, capsize=5, marker="D",
        linestyle="--", label=f"theory: standard deviation {deviation:.3g}",
    )  # fmt: skip
    axes.axvline(
        float(found.squares.mean()), color=theme.ink, linestyle=":", label=f"measured mean {found.squares.mean():.4g}"
    )
    if found.density is not None:
        axes.stairs(found.density, edges, color=theme.orange, linewidth=1.5, label="theory: density over the bins")
    axes.set_ylim(0, 1.18 * top)
    if found.bins[-1] - found.bins[0] < 1e-3:
        axes.ticklabel_format(axis="x", useOffset=found.mean)
    axes.set(xlabel="squared singular value", ylabel="density")
    axes.set_title("squared singular values of one step's Jacobian")
    figure.legend(loc="outside lower center", ncols=2)
