"""Pictures of a spec, as matplotlib figures (``pip install 'critinit[plot]'``; imported when a picture is drawn).

    from critinit.plotting import phase_diagram
    phase_diagram(spec, x="layers.0.gates.update.bias.mean").savefig("phase.png")

Each picture is one module: ``compute`` gets the numbers from a ``Study`` (theory and simulation, computed once for all
pictures), ``draw`` draws them.  They are readable without colour, in a light and a dark theme.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from critinit.plotting import copies as _copies
from critinit.plotting import phase as _phase
from critinit.plotting import schemes as _schemes
from critinit.plotting import singular as _singular
from critinit.plotting import times as _times
from critinit.plotting.copies import distance
from critinit.plotting.phase import phase_diagram
from critinit.plotting.schemes import compare
from critinit.plotting.singular import singular_values
from critinit.plotting.study import Study
from critinit.plotting.style import Theme, drawn, render
from critinit.plotting.times import time_constants

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "KINDS",
    "Found",
    "Kind",
    "Study",
    "compare",
    "distance",
    "phase_diagram",
    "picture",
    "render",
    "singular_values",
    "time_constants",
]


class Found(Protocol):
    """The numbers of a picture."""

    def summary(self) -> str:
        """The picture in a sentence, for those who cannot see it."""


@dataclass(frozen=True)
class Kind:
    """A kind of picture: what it shows and how to read it, in words; how it is computed and drawn."""

    name: str
    title: str
    words: str
    compute: Callable[..., Any]
    draw: Callable[[Any, Figure, Theme], None]
    height: float = 3.9


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "phase",
            "Phase diagram",
            "Two nearby states either drift apart or come together. χ is by how much their squared distance grows in "
            "one step: below 1 the network forgets, above 1 (hatched) small differences explode, and with them the "
            "gradients. At the thick line, χ = 1, they are kept as they are: theory expects the longest memory there. The star is this spec. "
            "Each point is the theory with weights drawn anew at every step.",
            _phase.compute,
            _phase.draw,
        ),
        Kind(
            "singular-values",
            "Singular values of one step",
            "One step of the network stretches some directions and shrinks others. Squared stretch factors near 1 keep "
            "gradients alive; a narrow histogram at 1 is called dynamical isometry. The histogram is measured on "
            "networks; theory predicts the outline over it, and with line and bar its mean and width.",
            _singular.compute,
            _singular.draw,
        ),
        Kind(
            "distance",
            "Distance of two copies",
            "Two copies of the network start slightly apart and read the same input. The curves show what is left of "
            "their squared distance: what reaches the right end, after T steps, is what an early input can still do "
            "to the output. Untied: weights drawn anew at every step, which theory solves exactly; tied: one set of "
            "weights, as real networks have. Where the two differ, tied counts.",
            _copies.compute,
            _copies.draw,
        ),
        Kind(
            "time-constants",
            "Time constants of the units",
            "Each unit forgets at its own pace: after one time constant about a third of what it held is left. Units at "
            "the left forget soonest, those at the right remember longest. A curve that rises to the dotted line T "
            "covers every lag up to the sequence's length. Padding (dashed) lets units hold on for longer where it is "
            "weaker than the input.",
            _times.compute,
            _times.draw,
        ),
        Kind(
            "compare",
            "All schemes",
            "The same cell and sequence length from every way of initializing. Good: time constants that reach the "
            "dotted line T, retention that is not nothing, and a state (second moment) that is not tiny. Bars reach from "
            "the shortest to the longest time constant, the mark is the median. This spec's scheme is bold and filled.",
            _schemes.compute,
            _schemes.draw,
            _schemes.HEIGHT,
        ),
    )
}


def picture(kind: Kind, found: Found, *, dark: bool = False) -> Figure:
    """The figure of numbers that ``kind.compute`` returned."""
    return drawn(lambda figure, theme: kind.draw(found, figure, theme), dark=dark, height=kind.height)
