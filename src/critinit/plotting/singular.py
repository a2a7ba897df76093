"""Squared singular values of the one-step Jacobian: measured on networks, with what the theory predicts of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critinit.dual import Array
from critinit.plotting.study import Study
from critinit.plotting.style import Theme, drawn, plain
from critinit.spec import InitSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Spectrum", "compute", "draw", "singular_values"]

_BINS = 40


@dataclass(frozen=True)
class Spectrum:
    """``squares``: measured squared singular values, all networks together; ``mean``, ``variance``: predicted.

    ``density``: the limiting density as points (value, density), shape (2, n), where theory has one.
    """

    squares: Array
    mean: float
    variance: float
    networks: int
    width: int
    density: Array | None = None

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
    jacobian = predicted.jacobian
    return Spectrum(
        squares=np.sort(measured.singular_values.ravel() ** 2),
        mean=jacobian.mean_squared_singular_value,
        variance=max(jacobian.variance, 0.0),
        networks=study.networks,
        width=study.width,
    )


def draw(found: Spectrum, figure: Figure, theme: Theme) -> None:
    """A histogram; the predicted mean as a line, the standard deviation as a bar above it."""
    axes = figure.add_subplot()
    plain(axes, theme)
    deviation = math.sqrt(found.variance)
    low = min(float(found.squares[0]), found.mean - deviation)
    high = max(float(found.squares[-1]), found.mean + deviation, low + 1e-6)
    heights, edges = np.histogram(found.squares, bins=_BINS, range=(low, high), density=True)
    axes.stairs(heights, edges, fill=True, color=theme.blue, alpha=0.3)
    axes.stairs(heights, edges, color=theme.blue, label=f"{found.networks} networks of {found.width} units")
    top = float(heights.max())
    axes.axvline(found.mean, color=theme.orange, linewidth=2, label=f"theory: mean {found.mean:.4g}")
    axes.errorbar(
        [found.mean], [1.08 * top], xerr=[deviation], color=theme.orange, linewidth=1.5, capsize=5, marker="D",
        linestyle="--", label=f"theory: standard deviation {deviation:.3g}",
    )  # fmt: skip
    axes.axvline(
        float(found.squares.mean()), color=theme.ink, linestyle=":", label=f"measured mean {found.squares.mean():.4g}"
    )
    if found.density is not None:
        axes.plot(*found.density, color=theme.orange, linestyle="-.", label="theory: limiting density")
    axes.set_ylim(0, 1.18 * top)
    if high - low < 1e-3:
        axes.ticklabel_format(axis="x", useOffset=found.mean)
    axes.set(xlabel="squared singular value", ylabel="density")
    axes.set_title("squared singular values of one step's Jacobian")
    figure.legend(loc="outside lower center", ncols=2)
