"""What is left of perturbations on their way forward, and of gradients on their way back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from critinit.diagnosis.result import Diagnosis
from critinit.dual import Array
from critinit.errors import ArgumentError
from critinit.plotting.style import new_figure, style_axes
from critinit.spec import FORGOTTEN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from critinit.plotting.style import Theme

__all__ = ["Curves", "compute", "diagnosis", "draw"]

_FLOOR, _CEILING = 1e-15, 1e12
"""Squares beyond which nothing is drawn: differences between them say nothing to a reader."""
_PANEL = 2.9
"""Inches: the height of one layer's panel."""
_MOST = 8
"""Layers and directions in one picture."""


@dataclass(frozen=True)
class Curves:
    """One layer in one direction.

    Attributes:
        title: Which, and the verdict on it.
        forward: What is left of a squared perturbation after 0, 1, … steps.
        backward: What is left of a squared gradient 0, 1, … steps back.
        predicted: The spec's T and what it predicted to be left after T steps; None where it predicted nothing.
    """

    title: str
    forward: Array
    backward: Array
    predicted: tuple[int, float] | None


def compute(found: Diagnosis) -> tuple[Curves, ...]:
    """Return the curves of a diagnosis, layer by layer.

    Args:
        found: The diagnosis.

    Raises:
        ArgumentError: It has more layers than a picture can show.
    """
    if len(found) > _MOST:
        allowed = f"at most {_MOST} layers and directions in a picture"
        raise ArgumentError(
            "layers", found=str(len(found)), allowed=allowed, hint="Diagnosis(found.layers[:8]) has some"
        )
    return tuple(
        Curves(
            f"{layer.place}: {'; '.join(dict.fromkeys(one.kind for one in layer.findings)) or 'fine'}",
            np.array(layer.numbers.perturbation),
            np.array(layer.numbers.gradient),
            None if layer.predicted is None or layer.T is None else (layer.T, layer.predicted.retention),
        )
        for layer in found
    )


def draw(data: tuple[Curves, ...], figure: Figure, theme: Theme) -> None:
    """Draw a panel for each layer, on a logarithmic axis.

    Args:
        data: The curves.
        figure: An empty figure.
        theme: The theme.
    """
    panels = figure.subplots(len(data), 1, squeeze=False)[:, 0]
    for axes, curves in zip(panels, data, strict=True):
        style_axes(axes, theme)
        for squares, label, color, style in (
            (curves.forward, "perturbation, forward", theme.ink, "-"),
            (curves.backward, "gradient, backward", theme.blue, "--"),
        ):
            shown = np.where((squares > _FLOOR) & (squares < _CEILING), squares, math.nan)
            axes.plot(np.arange(len(squares)), shown, label=label, color=color, linestyle=style)
        axes.axhline(FORGOTTEN, color=theme.muted, linestyle=":", linewidth=1.2, label="forgotten")
        last = max(len(curves.forward), len(curves.backward)) - 1
        if curves.predicted is not None and curves.predicted[0] <= 1.1 * last and curves.predicted[1] > _FLOOR:
            at, left = curves.predicted
            axes.plot([at], [left], "D", color=theme.orange, label="predicted at T", clip_on=False)
            last = max(last, at)
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, _FLOOR), min(max(high, 2.0), _CEILING))
        axes.set_xlim(0, last)
        axes.set(xlabel="steps", ylabel="what is left, squared")
        axes.set_title(curves.title)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)


def diagnosis(found: Diagnosis, *, dark: bool = False) -> Figure:
    """Return a figure of what ``critinit.diagnose`` found: perturbations forward and gradients backward, by layer.

    Args:
        found: The diagnosis.
        dark: Whether the figure is for a dark page.

    Raises:
        ArgumentError: There are more than eight layers and directions.
        MissingExtraError: matplotlib is not installed.
    """
    data = compute(found)
    height = _PANEL * len(data) + 1.0
    return new_figure(lambda figure, theme: draw(data, figure, theme), dark=dark, height=height)
