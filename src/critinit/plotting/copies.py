"""Distance of two nearby copies over time: the theories of untied and tied weights, and networks of both kinds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critinit.dual import Array
from critinit.plotting.study import Study
from critinit.plotting.style import Theme, drawn, plain
from critinit.spec import InitSpec, Numbers
from critinit.theory.tied.solution import tied_course

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Course", "Distances", "compute", "distance", "draw"]

_FLOOR = 1e-16
"""Less is not drawn: nothing of it is left in double precision."""
_POINTS = 80
_POPULATIONS = 4
"""Of the tied theory: their mean is drawn."""


@dataclass(frozen=True)
class Course:
    """E|δ_t|²/E|δ_0|² at ``steps``."""

    label: str
    steps: Array
    squared: Array


@dataclass(frozen=True)
class Distances:
    """The courses that there are (of networks and of the tied theory: the geometric mean over them), and the tied theory's retention at the spec's T."""

    T: int
    courses: tuple[Course, ...]
    tied: Numbers

    def summary(self) -> str:
        """The picture in a sentence."""
        ends = ", ".join(f"{c.label} {c.squared[-1]:.3g} after {c.steps[-1]:.0f} steps" for c in self.courses)
        return (
            f"What is left of the squared distance of two nearby copies: {ends}; "
            f"theory with tied weights {self.tied.retention:.3g} after {self.T}."
        )


def distance(
    spec: InitSpec, *, layer: int = 0, width: int = 200, networks: int = 4, seed: int = 0, dark: bool = False
) -> Figure:
    """The squared distance of two nearby copies over the spec's T steps; networks and the tied theory are followed for up to 2000."""
    found = compute(Study(spec, layer=layer, width=width, networks=networks, seed=seed))
    return drawn(lambda figure, theme: draw(found, figure, theme), dark=dark)


def compute(study: Study) -> Distances:
    """Follow the copies."""
    courses = []
    steps = np.unique(np.round(np.linspace(0, max(study.spec.T, study.steps), _POINTS)).astype(int))
    for label, theory in (("theory, untied", study.solution), ("the same, while padding", study.idle)):
        if theory is not None:
            squared = np.array([float(theory.retention(int(t))) for t in steps])
            courses.append(Course(label, steps.astype(float), squared))
    course = tied_course(
        study.spec.find_cell(),
        study.layer,
        steps=study.steps,
        populations=_POPULATIONS,
        seed=(study.seed, study.index),
    )
    with np.errstate(over="ignore", under="ignore"):
        squared = np.exp(course.mean(0))
    courses.append(Course("theory, tied", np.arange(len(squared), dtype=float), squared))
    for reading in ("untied", "tied"):
        measured = study.measured(reading)
        if measured is not None:
            with np.errstate(over="ignore", under="ignore"):
                squared = np.exp(measured.log_distance - measured.log_distance[0])
            courses.append(Course(f"networks, {reading}", np.arange(len(squared), dtype=float), squared))
    tied = study.numbers("tied")
    assert tied is not None
    return Distances(study.spec.T, tuple(courses), tied)


def draw(found: Distances, figure: Figure, theme: Theme) -> None:
    """Logarithmic courses, told apart by line and marker; the tied theory at T apart where its course ends before."""
    axes = figure.add_subplot()
    plain(axes, theme)
    looks = {
        "theory, untied": {"color": theme.ink, "linestyle": "-", "linewidth": 2.4},
        "the same, while padding": {"color": theme.muted, "linestyle": ":", "linewidth": 2.4},
        "theory, tied": {"color": theme.orange, "linestyle": (0, (8, 2)), "linewidth": 1.8},
        "networks, untied": {"color": theme.blue, "linestyle": "--", "marker": "o", "markersize": 4},
        "networks, tied": {
            "color": theme.orange,
            "linestyle": "-.",
            "marker": "s",
            "markersize": 4,
            "markerfacecolor": "none",
        },
    }
    for course in found.courses:
        shown = np.where(course.squared > _FLOOR, course.squared, math.nan)
        look = looks[course.label]
        every = {"markevery": max(1, len(course.steps) // 12)} if "marker" in look else {}
        axes.plot(course.steps, shown, label=course.label, **look, **every)  # type: ignore[arg-type]
    followed = max(float(c.steps[-1]) for c in found.courses if c.label == "theory, tied")
    if followed < found.T and found.tied.retention > _FLOOR:
        error = (found.tied.standard_error or {}).get("retention") or 0.0
        reach = min(2.0 * error, 0.99 * found.tied.retention)
        axes.errorbar(
            [found.T], [found.tied.retention], yerr=[[reach], [2.0 * error]], color=theme.orange, marker="D",
            markersize=8, markerfacecolor=theme.surface, capsize=4, linestyle="none", zorder=5,
            label="theory, tied, at T", clip_on=False,
        )  # fmt: skip
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, _FLOOR), min(max(high, 2.0), 1e16))
    axes.set_xlim(0, max(float(course.steps[-1]) for course in found.courses))
    axes.set(xlabel="steps", ylabel="squared distance, relative")
    axes.set_title("what is left of the distance of two copies")
    figure.legend(loc="outside lower center", ncols=2)
