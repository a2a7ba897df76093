"""The picture "distance": what is left over time of the distance of two perturbed copies of a network.

It shows the theories of untied and of tied weights, and simulated networks of both kinds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from critinit.dual import Array
from critinit.plotting.study import Study
from critinit.plotting.style import Theme, new_figure, style_axes
from critinit.simulation.network import Regime
from critinit.spec import InitSpec, Numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Course", "Distances", "compute", "distance", "draw"]

_FLOOR = 1e-16
"""Relative squared distance; less is not drawn, as double precision holds nothing of it."""
_CEILING = 1e16
"""Relative squared distance; more is not drawn."""
_POINTS = 80
"""Points of a curve that theory gives in closed form: smooth on a picture of this size."""
_MARKERS = 12
"""Markers along a curve: enough to tell curves apart without colour."""
_REGIMES: tuple[Regime, ...] = ("untied", "tied")
"""Both kinds of weights, in the order in which they are drawn."""
UNTIED, PADDED, TIED = "theory, untied", "theory, untied, while padding", "theory, tied"
"""Labels of the theories' courses."""


@dataclass(frozen=True)
class Course:
    """What is left of the squared distance, E|δ_t|²/E|δ_0|², after each of ``steps`` steps."""

    label: str
    steps: Array
    squared: Array


@dataclass(frozen=True)
class Distances:
    """All courses, and the tied theory's numbers.

    Attributes:
        T: Sequence length in steps.
        courses: Of networks and of the tied theory they are geometric means, over networks and over populations.
        tied: The tied theory's numbers, for its retention at T where its course ends before T.
    """

    T: int
    courses: tuple[Course, ...]
    tied: Numbers

    def summary(self) -> str:
        """Return the picture in a sentence."""
        errors = self.tied.standard_error
        error = (errors.get("retention") if errors else None) or 0.0
        tied = (
            f"{self.tied.retention:.3g}" if error < self.tied.retention or not error else "too uncertain to be stated"
        )
        ends = ", ".join(f"{c.label} {c.squared[-1]:.3g} after {c.steps[-1]:.0f} steps" for c in self.courses)
        return (
            f"What is left of the squared distance of two perturbed copies: {ends}; "
            f"theory with tied weights {tied} after {self.T}."
        )


def distance(
    spec: InitSpec, *, layer: int = 0, width: int = 200, networks: int = 4, seed: int = 0, dark: bool = False
) -> Figure:
    """Return a figure of the squared distance of two perturbed copies over the spec's T steps.

    The untied theory is shown up to T; the tied theory and networks up to T or 2000 steps, whichever is less.

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


def compute(study: Study) -> Distances:
    """Return the courses; those of untied weights are left out where a recurrent kernel is the identity."""
    courses = []
    steps = np.unique(np.round(np.linspace(0, max(study.spec.T, study.steps), _POINTS)).astype(int))
    for label, theory in ((UNTIED, study.solution), (PADDED, study.padded)):
        if theory is not None:
            squared = np.array([float(theory.retention(int(t))) for t in steps])
            courses.append(Course(label, steps.astype(float), squared))
    courses.append(_course(TIED, study.tied_course))
    for weights in _REGIMES:
        measured = study.measured(weights)
        if measured is not None:
            courses.append(_course(f"networks, {weights}", measured.log_distance))
    return Distances(study.spec.T, tuple(courses), study.tied_numbers)


def _course(label: str, log_squared: Array) -> Course:
    """The course at 0, 1, 2, … steps, from the logarithm of the squared distance."""
    with np.errstate(over="ignore", under="ignore"):
        squared = np.exp(log_squared - log_squared[0])
    return Course(label, np.arange(len(squared), dtype=float), squared)


def draw(data: Distances, figure: Figure, theme: Theme) -> None:
    """Draw the courses on a logarithmic axis, and the tied theory at T where its course ends before T."""
    axes = figure.add_subplot()
    style_axes(axes, theme)
    looks = _looks(theme)
    for course in data.courses:
        shown = np.where(course.squared > _FLOOR, course.squared, math.nan)
        look = looks[course.label]
        every = max(1, len(course.steps) // _MARKERS)
        axes.plot(course.steps, shown, label=course.label, markevery=every, **look)
    followed = max(float(course.steps[-1]) for course in data.courses if course.label == TIED)
    if followed < data.T and data.tied.retention > _FLOOR:
        _draw_at_T(data, axes, theme)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, _FLOOR), min(max(high, 2.0), _CEILING))
    axes.set_xlim(0, max(float(course.steps[-1]) for course in data.courses))
    axes.set(xlabel="steps", ylabel="squared distance, relative to step 0")
    axes.set_title("what is left of the distance of two perturbed copies")
    figure.legend(loc="outside lower center", ncols=2)


def _looks(theme: Theme) -> dict[str, dict[str, Any]]:
    """Line and marker of each course, by label."""
    return {
        UNTIED: {"color": theme.ink, "linestyle": "-", "linewidth": 2.4},
        PADDED: {"color": theme.muted, "linestyle": ":", "linewidth": 2.4},
        TIED: {"color": theme.orange, "linestyle": (0, (8, 2)), "linewidth": 1.8},
        "networks, untied": {"color": theme.blue, "linestyle": "--", "marker": "o", "markersize": 4},
        "networks, tied": {
            "color": theme.orange, "linestyle": "-.", "marker": "s", "markersize": 4, "markerfacecolor": "none",
        },
    }  # fmt: skip


def _draw_at_T(data: Distances, axes: Axes, theme: Theme) -> None:
    """A mark at T for the tied theory, with two standard errors."""
    retention = data.tied.retention
    errors = data.tied.standard_error
    error = (errors["retention"] if errors else None) or 0.0
    down = min(2.0 * error, 0.99 * retention)
    axes.errorbar(
        [data.T], [retention], yerr=[[down], [2.0 * error]], color=theme.orange, marker="D", markersize=8,
        markerfacecolor=theme.surface, capsize=4, linestyle="none", zorder=5, label="theory, tied, at T", clip_on=False,
    )  # fmt: skip
