"""How pictures look: a light and a dark theme, and files that are the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from critinit.errors import ArgumentError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DARK", "FORMATS", "HEIGHT", "LIGHT", "Theme", "new_figure", "render", "style_axes"]

FORMATS = ("png", "svg")
"""File formats of a picture."""
HEIGHT = 3.9
"""Inches: the height of a picture of one panel."""
_WIDTH = 5.4
"""Inches: 10 pt letters stay legible where a phone shows the picture 350 pixels wide."""
_DPI = 200
"""Dots per inch of a PNG: sharp on a screen of twice the usual density."""


@dataclass(frozen=True)
class Theme:
    """Colours of one theme; no picture needs them, as lines also differ in style and marker.

    Attributes:
        name: Its name.
        surface: Of the page.
        ink: Of text and of the main line.
        muted: Of side notes.
        grid: Of the grid behind the lines.
        blue: Of what is measured, or under the layer's input.
        orange: Of what is predicted, or while the input is padding.
        low: Of areas where a number is low.
        high: Of areas where it is high.
    """

    name: str
    surface: str
    ink: str
    muted: str
    grid: str
    blue: str
    orange: str
    low: str
    high: str


LIGHT = Theme(
    "light", surface="#ffffff", ink="#1c1c1a", muted="#5c5b57", grid="#dedcd6",
    blue="#1f5fa8", orange="#b3500b", low="#f3f6fa", high="#6fa0d4",
)  # fmt: skip
DARK = Theme(
    "dark", surface="#161615", ink="#ecebe6", muted="#aeaca5", grid="#3a3936",
    blue="#8bbcf2", orange="#f0a868", low="#1d222a", high="#3f6ea3",
)  # fmt: skip


def new_figure(draw: Callable[[Figure, Theme], None], *, dark: bool = False, height: float = HEIGHT) -> Figure:
    """Return a new figure that ``draw`` has drawn on; the user's settings of matplotlib do not enter.

    Args:
        draw: Called with the empty figure and the theme.
        dark: Whether the figure is for a dark page.
        height: In inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot") from None
    theme = DARK if dark else LIGHT
    with _settings(theme):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure, theme)
    return figure


def render(figure: Figure, file_format: str) -> bytes:
    """Return the figure as the bytes of a file; the same figure gives the same bytes with one version of matplotlib.

    Args:
        figure: The figure.
        file_format: "png" or "svg".

    Raises:
        ArgumentError: The format is another one.
    """
    if file_format not in FORMATS:
        raise ArgumentError("format", found=repr(file_format), allowed=", ".join(FORMATS))
    metadata: dict[str, Any] = {"Software": None} if file_format == "png" else {"Date": None, "Creator": None}
    stream = io.BytesIO()
    with _settings(None):
        figure.savefig(stream, format=file_format, dpi=_DPI, metadata=metadata)
    return stream.getvalue()


def style_axes(axes: Axes, theme: Theme) -> None:
    """Leave only the two sides that carry numbers, and put a faint grid behind the lines."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(True, color=theme.grid, linewidth=0.6)
    axes.set_axisbelow(True)


@contextmanager
def _settings(theme: Theme | None) -> Iterator[None]:
    """matplotlib's defaults with critinit's own settings, for a while."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.hashsalt": "critinit", "font.size": 10.0, "axes.titlesize": 10.5})
        if theme is not None:
            mpl.rcParams.update({"text.color": theme.ink, "axes.edgecolor": theme.ink, "axes.labelcolor": theme.ink})
            mpl.rcParams.update({"xtick.color": theme.ink, "ytick.color": theme.ink})
            mpl.rcParams.update({"figure.facecolor": theme.surface, "axes.facecolor": theme.surface})
            mpl.rcParams.update({"legend.frameon": False, "legend.handlelength": 3.2, "legend.fontsize": 9.0})
            mpl.rcParams.update({"hatch.color": theme.muted, "hatch.linewidth": 0.5, "axes.titlelocation": "left"})
        yield
