"""Every scheme side by side, for the cell, T and inputs of a spec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from critinit.errors import ArgumentError
from critinit.plotting.study import Study
from critinit.plotting.style import Theme, drawn, plain
from critinit.schemes import NAMES, generate
from critinit.spec import InitSpec, Numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Reading", "Row", "Schemes", "compare", "compute", "draw"]

_LEAST = 1e-16
"""Less counts as nothing."""


@dataclass(frozen=True)
class Reading:
    """Time constants (shortest, median, longest unit) and retention over T steps, with input or while it is padding."""

    times: tuple[float, float, float]
    retention: float


@dataclass(frozen=True)
class Row:
    """What the untied theory says of one scheme; ``idle`` is None where padding is no different from input."""

    scheme: str
    second_moment: float
    informed: Reading
    idle: Reading | None


@dataclass(frozen=True)
class Schemes:
    """The schemes that the cell can have; ``own`` is the spec's."""

    T: int
    own: str
    rows: tuple[Row, ...]

    def summary(self) -> str:
        """The picture in a sentence."""
        return "; ".join(
            f"{row.scheme}: time constants up to {row.informed.times[2]:.3g} steps, retention {row.informed.retention:.2g}"
            + ("" if row.idle is None else f" ({row.idle.times[2]:.3g} and {row.idle.retention:.2g} while padding)")
            + f", second moment {row.second_moment:.2g}"
            for row in self.rows
        )


def compare(spec: InitSpec, *, dark: bool = False) -> Figure:
    """The schemes' time constants, retention over T steps and second moments, for the spec's cell, T and inputs."""
    found = compute(Study(spec))
    return drawn(lambda figure, theme: draw(found, figure, theme), dark=dark, height=HEIGHT)


HEIGHT = 7.8


def compute(study: Study) -> Schemes:
    """Every scheme's reading; those that the cell cannot have are left out."""
    spec = study.spec
    report = study.reporter("schemes")
    rows = []
    for done, scheme in enumerate(NAMES, 1):
        try:
            other = _of_scheme(spec, scheme)
        except SchemeError:
            continue
        else:
            numbers = other.layers[0].predicted.untied
            if isinstance(numbers, Numbers):
                spread = numbers.unit_time_constants
                informed = Reading((spread.min, spread.median, spread.max), numbers.retention)
                rows.append(Row(scheme, numbers.second_moment, informed, _idle(other)))
        if report:
            report(done, len(NAMES))
    return Schemes(spec.T, spec.scheme, tuple(rows))


def _of_scheme(spec: InitSpec, scheme: str) -> InitSpec:
    """What the scheme gives for a spec's cell, T and inputs: of its own scheme, the spec itself."""
    if scheme == spec.scheme and isinstance(spec.layers[0].predicted.untied, Numbers):
        return spec
    source = spec.layers[0].input
    return generate(
        spec.cell, spec.T, scheme=scheme, input_variance=source.variance,
        input_correlation=source.correlation, padding=source.padding,
    )  # fmt: skip


def _idle(spec: InitSpec) -> Reading | None:
    theory = Study(spec).idle
    if theory is None:
        return None
    low, middle, high = (float(t) for t in theory.time_constants)
    return Reading((low, middle, high), float(theory.retention(spec.T)))


def draw(found: Schemes, figure: Figure, theme: Theme) -> None:
    """A row for each scheme in three panels; the spec's own name is bold and its marks are filled."""
    times, retention, moment = figure.subplots(3, 1, height_ratios=(1.2, 1.4, 1.0))
    names = [row.scheme for row in found.rows]
    both = any(row.idle is not None for row in found.rows)
    for axes in (times, retention, moment):
        plain(axes, theme)
        axes.grid(visible=False, axis="y")
        axes.set_xscale("log")
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), names)
        for label in axes.get_yticklabels():
            label.set_weight("bold" if label.get_text() == found.own else "normal")
    for y, row in enumerate(found.rows):
        own = row.scheme == found.own
        look = _look(theme.blue, "o", own, theme)
        for reading, shift, mark in (
            (row.informed, -0.16, look),
            (row.idle, 0.2, _look(theme.orange, "s", own, theme)),
        ):
            if reading is not None:
                at = y + (shift if both else 0.0)
                low, middle, high = reading.times
                line = "--" if reading is row.idle else "-"
                times.plot([low, high], [at, at], color=mark["color"], linewidth=1.6, linestyle=line)
                times.plot([low, high], [at, at], color=mark["color"], linestyle="none", marker="|", markersize=9)
                times.plot([middle], [at], linestyle="none", **mark)
                _point(retention, reading.retention, at, mark, theme)
        _point(moment, row.second_moment, y, look, theme)
    times.axvline(found.T, color=theme.ink, linestyle=":", linewidth=1.2)
    times.annotate(
        f"T = {found.T}", (found.T, -0.5), xytext=(-3, 3), textcoords="offset points", ha="right", annotation_clip=False
    )
    times.set_title("time constants of the units, in steps", pad=16)
    retention.set_title(f"what {found.T} steps leave of a perturbation")
    retention.set_xlim(_LEAST, max(1.0, *retention.get_xlim()))
    moment.set_title("second moment of the state")
    low, high = moment.get_xlim()
    moment.set_xlim(min(low, 1e-4), max(high, 1.0))
    if both:
        from matplotlib.lines import Line2D

        figure.legend(
            [
                Line2D([], [], linestyle="-", **_look(theme.blue, "o", False, theme)),
                Line2D([], [], linestyle="--", **_look(theme.orange, "s", False, theme)),
            ],
            ["with input", "while the input is padding"],
            loc="outside lower center",
            ncols=2,
        )


def _look(colour: str, marker: str, own: bool, theme: Theme) -> dict[str, Any]:
    return {
        "color": colour, "marker": marker, "markersize": 6.5, "markerfacecolor": colour if own else theme.surface,
    }  # fmt: skip


def _point(axes: Axes, value: float, y: float, look: dict[str, Any], theme: Theme) -> None:
    """A point with its value beside it; at the edge, and in words, where it is nothing."""
    shown = max(value, _LEAST)
    right = shown > 1e-3
    axes.plot([shown], [y], linestyle="none", clip_on=False, **look)
    axes.annotate(
        f"{value:.2g}" if value > _LEAST else "nothing", (shown, y), xytext=(-8 if right else 8, 0),
        textcoords="offset points", va="center", ha="right" if right else "left", color=theme.muted, fontsize=8,
        annotation_clip=False,
    )  # fmt: skip
