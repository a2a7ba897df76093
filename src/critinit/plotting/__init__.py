"""Pictures of a spec, as matplotlib figures.  They need ``pip install 'critinit[plot]'``.

Each kind of picture is one module of ``critinit.plotting.pictures`` with two functions: ``compute`` takes a ``Study``
and returns the numbers, ``draw`` draws them.  A ``Study`` runs each theory and each simulation once for all pictures.
Every picture has a light and a dark theme, and can be read without colour.

Example:
    >>> from critinit import generate
    >>> from critinit.plotting import default_kind, time_constants
    >>> spec = generate("gru", T=100)
    >>> default_kind(spec)
    'time-constants'
    >>> time_constants(spec).savefig("times.png")  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from critinit.plotting.pictures import distance as _distance
from critinit.plotting.pictures import phase as _phase
from critinit.plotting.pictures import schemes as _schemes
from critinit.plotting.pictures import singular_values as _singular_values
from critinit.plotting.pictures import time_constants as _time_constants
from critinit.plotting.pictures.diagnosis import diagnosis
from critinit.plotting.pictures.distance import distance
from critinit.plotting.pictures.phase import phase_diagram
from critinit.plotting.pictures.schemes import compare
from critinit.plotting.pictures.singular_values import singular_values
from critinit.plotting.pictures.time_constants import time_constants
from critinit.plotting.study import Study
from critinit.plotting.style import HEIGHT, Theme, new_figure, render
from critinit.spec import InitSpec
from critinit.theory.parameters import has_identity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "KINDS",
    "PictureData",
    "PictureKind",
    "Study",
    "compare",
    "default_kind",
    "diagnosis",
    "distance",
    "kinds_of",
    "phase_diagram",
    "picture",
    "render",
    "singular_values",
    "time_constants",
]


class PictureData(Protocol):
    """The numbers of a picture, as ``PictureKind.compute`` returns them."""

    def summary(self) -> str:
        """Return the picture in a sentence, for those who cannot see it."""


@dataclass(frozen=True)
class PictureKind:
    """A kind of picture.

    Attributes:
        name: Its name on the command line.
        title: Its heading on a page.
        explanation: What it shows, and what is good and bad in it, in words.
        compute: From a ``Study`` to the picture's numbers.
        draw: Draws the numbers on a figure, in a theme.
        height: Of the figure, in inches.
        needs_keep_gate: Whether only cells in which a gate keeps the state have it.
        needs_untied: Whether it shows the untied theory, which identity kernels lack.
    """

    name: str
    title: str
    explanation: str
    compute: Callable[..., Any]
    draw: Callable[[Any, Figure, Theme], None]
    height: float = HEIGHT
    needs_keep_gate: bool = False
    needs_untied: bool = False


KINDS: dict[str, PictureKind] = {
    kind.name: kind
    for kind in (
        PictureKind(
            "time-constants",
            "Time constants of the units",
            "Each unit forgets at its own pace: after one time constant about a third of what it held is left. The "
            "units stand in order: those at the left forget soonest, those at the right remember longest. Good: the "
            "curve reaches the dotted line T, so some units remember the whole sequence, and it covers the times "
            "below, so others remember short lags. Bad: the whole curve lies far below T; then nothing early in the "
            "sequence reaches its end. While the input is padding (dashed, where padding is stated and differs from "
            "the input) units may remember for longer. The average is over the states that the untied theory "
            "predicts.",
            _time_constants.compute,
            _time_constants.draw,
            needs_keep_gate=True,
            needs_untied=True,
        ),
        PictureKind(
            "phase",
            "Phase diagram",
            "The growth rate χ is the factor by which the squared distance of two nearby states changes in one step. "
            "Below 1 the states come together, and the network forgets. Above 1 (hatched) small differences grow, "
            "and gradients explode. At the thick line χ = 1 differences last; memory is longest there. The star is "
            "this spec. Good: the star lies a little below χ = 1. Bad: it lies in the hatched area, or far below 1, "
            "unless the time constants of single units are long, which χ does not show. Every point is the untied "
            "theory, with weights drawn anew at every step.",
            _phase.compute,
            _phase.draw,
            needs_untied=True,
        ),
        PictureKind(
            "singular-values",
            "Singular values of one step",
            "One step of the network stretches some directions of a small change and shrinks others; a squared "
            "singular value is the factor for one direction. Good: all are close to 1, so gradients neither vanish "
            "nor explode; a narrow histogram at 1 is called dynamical isometry. Bad: many are far below 1 (what lies "
            "there is forgotten) or above 1 (what lies there may explode). The histogram is measured on simulated "
            "networks. Theory predicts the outline over it (where it can), the mean (line) and the deviation (bar).",
            _singular_values.compute,
            _singular_values.draw,
        ),
        PictureKind(
            "distance",
            "Distance of two perturbed copies",
            "Two copies of the network start slightly apart and read the same input. The curves show what is left of "
            "their squared distance. What is left after T steps, at the right end, is what an early input can still "
            "do to the output. Good: between 0.001 and 1 at T. Bad: next to nothing, then early inputs are lost; or "
            "more than 1, then small differences grow. Untied: weights drawn anew at every step, which theory solves "
            "exactly. Tied: one set of weights, as real networks have. Where the two differ, tied counts.",
            _distance.compute,
            _distance.draw,
        ),
        PictureKind(
            "compare",
            "All schemes",
            "The same cell, sequence length and inputs from every scheme, in the untied theory. Top: bars reach from "
            "the shortest to the longest time constant of the units, the mark is the median; good: the bar reaches "
            "the dotted line T. Middle: what T steps leave of a squared distance; good: not nothing, and at most 1. "
            "Bottom: the mean square of the state; good: above 0.001, below it the readout sees little. The name of "
            "this spec's scheme is bold and its marks are filled.",
            _schemes.compute,
            _schemes.draw,
            _schemes.HEIGHT,
        ),
    )
}
"""The kinds of picture by name, in the order of a page."""


def kinds_of(spec: InitSpec) -> tuple[str, ...]:
    """Return the names of the kinds of picture that there are of a spec.

    Example:
        >>> from critinit import generate
        >>> kinds_of(generate("rnn", T=50))
        ('phase', 'singular-values', 'distance', 'compare')
    """
    identity = any(has_identity(group.gates) for layer in spec.layers for group in layer.groups)
    gated = spec.find_cell().keep_gate is not None
    kinds = KINDS.values()
    return tuple(k.name for k in kinds if (gated or not k.needs_keep_gate) and not (identity and k.needs_untied))


def default_kind(spec: InitSpec) -> str:
    """Return the kind of picture that says most of a spec, by name.

    It is "time-constants" for a cell with a gate that keeps the state, and "phase" for others.  Both need the untied
    theory, which cannot describe an identity kernel; there it is "distance".
    """
    kinds = kinds_of(spec)
    return next(name for name in ("time-constants", "phase", "distance") if name in kinds)


def picture(kind: PictureKind, data: PictureData, *, dark: bool = False) -> Figure:
    """Return the figure of numbers that ``kind.compute`` returned.

    Args:
        kind: The kind of picture.
        data: Its numbers.
        dark: Whether the figure is for a dark page.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return new_figure(lambda figure, theme: kind.draw(data, figure, theme), dark=dark, height=kind.height)
