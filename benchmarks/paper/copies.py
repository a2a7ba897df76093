"""Distance of two perturbed copies of a network over time, for three biases of the gate that keeps the state.

Networks of 500 units whose weights stay, and the same with weights drawn anew at every step, against both theories.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.paper.lines import with_bias
from critinit.dual import Array
from critinit.files import write
from critinit.plotting.style import Theme, new_figure, render, style_axes
from critinit.simulation import simulate_layer
from critinit.theory.parameters import layer_parameters
from critinit.theory.tied.solution import tied_course
from critinit.theory.untied.solution import solve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Courses", "draw", "follow", "run", "table"]

BIASES = (1.0, 3.0, 5.0)
"""Of the update gate, which keeps the state."""
STEPS, WIDTH, NETWORKS = 150, 500, 6
"""Steps that are followed, units of a network, networks."""
_SHOWN_FROM = 1e-12
"""Relative squared distance; less is not drawn."""


@dataclass(frozen=True)
class Courses:
    """ln E|δ_t|²/E|δ_0|² at t = 0 … ``STEPS``, (steps + 1,) each.

    Attributes:
        bias: The update gate's bias.
        untied: Of the untied theory.
        tied: Of the tied theory.
        error: Standard error of ``tied``.
        fresh: Of networks whose weights are drawn anew at every step, mean over networks.
        kept: Of networks that keep their weights, mean over networks.
    """

    bias: float
    untied: Array
    tied: Array
    error: Array
    fresh: Array
    kept: Array


def follow(bias: float, *, width: int = WIDTH, networks: int = NETWORKS, steps: int = STEPS) -> Courses:
    """Return the courses of both theories and of both kinds of networks."""
    spec = with_bias(bias, steps)
    cell, layer = spec.find_cell(), spec.layers[0]
    solution = solve(layer_parameters(cell, layer))
    populations = tied_course(cell, layer, steps=steps)
    found = []
    for weights in ("untied", "tied"):
        measured = simulate_layer(cell, layer, T=steps, steps=steps, width=width, seeds=networks, weights=weights)
        assert measured is not None
        found.append(measured.log_distance - measured.log_distance[0])
    return Courses(
        bias,
        np.log([float(solution.retention(t)) for t in range(steps + 1)]),
        populations.mean(0),
        populations.std(0, ddof=1) / np.sqrt(len(populations)),
        *found,
    )


def table(courses: list[Courses]) -> str:
    """Return a Markdown table of what is left at three times, as powers of ten."""
    lines = [
        "| update bias | steps | theory, untied | networks, untied | theory, tied | networks, tied |",
        "|---|---|---|---|---|---|",
    ]
    for c in courses:
        for t in (20, 50, 150):
            untied, fresh, kept, tied, error = (
                x[t] / np.log(10.0) for x in (c.untied, c.fresh, c.kept, c.tied, c.error)
            )
            lines.append(f"| {c.bias:g} | {t} | {untied:.2f} | {fresh:.2f} | {tied:.2f} ± {error:.2f} | {kept:.2f} |")
    return "\n".join(lines)


def draw(courses: list[Courses], figure: Figure, theme: Theme) -> None:
    """Draw a panel for each bias: theories as lines, networks as marks."""
    panels = figure.subplots(1, len(courses), sharey=True)
    for axes, c in zip(panels, courses, strict=True):
        style_axes(axes, theme)
        steps = np.arange(len(c.untied))
        every = slice(0, None, 10)
        axes.plot(steps, np.exp(c.untied), color=theme.ink, linewidth=1.6, label="theory, untied")
        axes.plot(steps[every], np.exp(c.fresh[every]), "o", color=theme.blue, markersize=4, label="networks, untied")
        axes.plot(steps, np.exp(c.tied), "--", color=theme.orange, linewidth=1.6, label="theory, tied")
        axes.plot(steps[every], np.exp(c.kept[every]), "s", color=theme.orange, markersize=4, label="networks, tied",
                  markerfacecolor="none")  # fmt: skip
        axes.set_yscale("log")
        axes.set_ylim(_SHOWN_FROM, 3.0)
        axes.set(xlabel="steps", title=f"bias {c.bias:g}")
    panels[0].set_ylabel("squared distance, relative")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)


def run(folder: Path) -> None:
    """Print the table, write the picture."""
    courses = [follow(bias) for bias in BIASES]
    print(table(courses))
    figure = new_figure(lambda f, theme: draw(courses, f, theme))
    for kind in ("png", "svg"):
        write(folder / "images" / f"copies.{kind}", render(figure, kind))
