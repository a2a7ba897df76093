"""The picture "all schemes": what each scheme gives for the cell, T and inputs of a spec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from critinit.dual import Array
from critinit.errors import SchemeError
from critinit.plotting.study import Study
from critinit.plotting.style import Theme, new_figure, style_axes
from critinit.schemes import SCHEMES
from critinit.schemes.generating import generate
from critinit.spec import InitSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["HEIGHT", "SchemeMemory", "SchemeRow", "SchemeTable", "compare", "compute", "draw"]

HEIGHT = 7.8
"""Inches: three panels with a line for each scheme."""
_LEAST = 1e-16
"""Retention; less is drawn at the edge and called nothing, as double precision holds nothing of it."""
_LEFT_LABEL_FROM = 1e-3
"""Retention or second moment from which the number stands left of its mark: right of it would be outside the panel."""


@dataclass(frozen=True)
class SchemeMemory:
    """How long a scheme's units remember, with input or while the input is padding.

    Attributes:
        times: Time constants of the shortest, median and longest unit, in steps.
        retention: What is left of a squared distance after T steps.
    """

    times: tuple[float, float, float]
    retention: float


@dataclass(frozen=True)
class SchemeRow:
    """What the untied theory says of one scheme.

    Attributes:
        scheme: The scheme's name.
        second_moment: Mean square of the state.
        informed: Its memory under the layer's input.
        padded: Its memory while the input is padding; None where padding is unknown or as strong as the input.
    """

    scheme: str
    second_moment: float
    informed: SchemeMemory
    padded: SchemeMemory | None


@dataclass(frozen=True)
class SchemeTable:
    """The schemes that suit the cell and have an untied reading.

    Attributes:
        T: Sequence length in steps.
        own: The spec's own scheme.
        rows: One a scheme.
    """

    T: int
    own: str
    rows: tuple[SchemeRow, ...]

    def summary(self) -> str:
        """Return the picture in a sentence."""
        return "; ".join(map(_said, self.rows))


def _said(row: SchemeRow) -> str:
    """A scheme's row in words."""
    informed, padded = row.informed, row.padded
    while_padding = "" if padded is None else f" ({padded.times[2]:.3g} and {padded.retention:.2g} while padding)"
    return (
        f"{row.scheme}: time constants up to {informed.times[2]:.3g} steps, retention {informed.retention:.2g}"
        f"{while_padding}, second moment {row.second_moment:.2g}"
    )


def compare(spec: InitSpec, *, dark: bool = False) -> Figure:
    """Return a figure of every scheme's time constants, retention over T steps and second moment.

    Args:
        spec: The spec whose cell, T and inputs the schemes are generated for.
        dark: Whether the figure is for a dark page.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    data = compute(Study(spec))
    return new_figure(lambda figure, theme: draw(data, figure, theme), dark=dark, height=HEIGHT)


def compute(study: Study) -> SchemeTable:
    """Return what each scheme gives in the first layer; schemes that do not suit the cell are left out."""
    report = study.reporter("schemes")
    rows: list[SchemeRow] = []
    for done, scheme in enumerate(SCHEMES.names(), 1):
        rows += _rows(study, scheme)
        if report:
            report(done, len(SCHEMES.names()))
    return SchemeTable(study.spec.T, study.spec.scheme, tuple(rows))


def _rows(study: Study, scheme: str) -> Iterator[SchemeRow]:
    """The scheme's row; none where the scheme does not suit the cell or has no untied reading."""
    try:
        other = _study_of(study, scheme)
    except SchemeError:
        return
    numbers = other.untied_numbers
    if numbers is None:
        return
    padded = None
    padded_times = other.padded_times()
    if other.padded is not None and padded_times is not None:
        padded = _memory(padded_times, float(other.padded.retention(other.spec.T)))
    yield SchemeRow(scheme, numbers.second_moment, _memory(other.times(), numbers.retention), padded)


def _memory(times: Array, retention: float) -> SchemeMemory:
    return SchemeMemory((float(times[0]), float(times[len(times) // 2]), float(times[-1])), retention)


def _study_of(study: Study, scheme: str) -> Study:
    """A study of what the scheme gives; of the spec's own scheme, a study of the spec itself."""
    spec = study.spec
    if scheme == spec.scheme:
        return study if study.index == 0 else Study(spec)
    source = spec.layers[0].input
    other = generate(
        spec.cell, spec.T, scheme=scheme, input_variance=source.variance, input_correlation=source.correlation,
        padding=source.padding,
    )  # fmt: skip
    return Study(other)


def draw(data: SchemeTable, figure: Figure, theme: Theme) -> None:
    """Draw three panels with a line for each scheme; the spec's own has a bold name and filled marks."""
    times, retention, moment = figure.subplots(3, 1, height_ratios=(1.2, 1.4, 1.0))
    both = any(row.padded is not None for row in data.rows)
    for axes in (times, retention, moment):
        _prepare(axes, data, theme)
    for y, row in enumerate(data.rows):
        own = row.scheme == data.own
        look, padded_look = _look(theme.blue, "o", own, theme), _look(theme.orange, "s", own, theme)
        shift = (-0.16, 0.2) if both else (0.0, 0.0)
        _draw_times(times, row.informed, y + shift[0], "-", look)
        _draw_value(retention, row.informed.retention, y + shift[0], look, theme)
        if row.padded is not None:
            _draw_times(times, row.padded, y + shift[1], "--", padded_look)
            _draw_value(retention, row.padded.retention, y + shift[1], padded_look, theme)
        _draw_value(moment, row.second_moment, y, look, theme)
    times.axvline(data.T, color=theme.ink, linestyle=":", linewidth=1.2)
    times.annotate(
        f"T = {data.T}", (data.T, -0.5), xytext=(-3, 3), textcoords="offset points", ha="right", annotation_clip=False
    )
    times.set_title("time constants of the units, in steps", pad=16)
    retention.set_title(f"retention: what {data.T} steps leave of a squared distance")
    retention.set_xlim(_LEAST, max(1.0, *retention.get_xlim()))
    moment.set_title("second moment: mean square of the state")
    low, high = moment.get_xlim()
    moment.set_xlim(min(low, 1e-4), max(high, 1.0))
    if both:
        _draw_legend(figure, theme)


def _prepare(axes: Axes, data: SchemeTable, theme: Theme) -> None:
    """A logarithmic axis, and the schemes' names on the left."""
    style_axes(axes, theme)
    axes.grid(visible=False, axis="y")
    axes.set_xscale("log")
    axes.set_ylim(len(data.rows) - 0.5, -0.5)
    axes.set_yticks(range(len(data.rows)), [row.scheme for row in data.rows])
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == data.own else "normal")


def _draw_legend(figure: Figure, theme: Theme) -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], linestyle="-", **_look(theme.blue, "o", False, theme)),
        Line2D([], [], linestyle="--", **_look(theme.orange, "s", False, theme)),
    ]
    figure.legend(lines, ["with input", "while the input is padding"], loc="outside lower center", ncols=2)


def _look(colour: str, marker: str, own: bool, theme: Theme) -> dict[str, Any]:
    """Colour and marker; filled for the spec's own scheme."""
    return {
        "color": colour, "marker": marker, "markersize": 6.5, "markerfacecolor": colour if own else theme.surface,
    }  # fmt: skip


def _draw_times(axes: Axes, memory: SchemeMemory, y: float, line: str, look: dict[str, Any]) -> None:
    """A bar from the shortest to the longest time constant, and a mark at the median."""
    low, middle, high = memory.times
    axes.plot([low, high], [y, y], color=look["color"], linewidth=1.6, linestyle=line)
    axes.plot([low, high], [y, y], color=look["color"], linestyle="none", marker="|", markersize=9)
    axes.plot([middle], [y], linestyle="none", **look)


def _draw_value(axes: Axes, number: float, y: float, look: dict[str, Any], theme: Theme) -> None:
    """A mark with its number beside it; at the edge, and in words, where it is nothing."""
    shown = max(number, _LEAST)
    left = shown > _LEFT_LABEL_FROM
    axes.plot([shown], [y], linestyle="none", clip_on=False, **look)
    axes.annotate(
        f"{number:.2g}" if number > _LEAST else "nothing", (shown, y), xytext=(-8 if left else 8, 0),
        textcoords="offset points", va="center", ha="right" if left else "left", color=theme.muted, fontsize=8,
        annotation_clip=False,
    )  # fmt: skip
