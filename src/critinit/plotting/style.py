"""How pictures look: two themes, lines told apart without colour, and files that are the same bytes every time."""

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

__all__ = ["DARK", "FORMATS", "LIGHT", "Theme", "drawn", "render", "theme_of"]

FORMATS = ("png", "svg")

_WIDTH = 5.4
"""Inches: 10 pt letters stay legible where a phone shows the picture 350 pixels wide."""


@dataclass(frozen=True)
class Theme:
    """Colours of one theme; every pair of series also differs in line style and marker."""

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


def theme_of(dark: bool) -> Theme:
    """The theme for a dark page, or for a light one."""
    return DARK if dark else LIGHT


def drawn(draw: Callable[[Figure, Theme], None], *, dark: bool = False, height: float = 3.9) -> Figure:
    """A new figure that ``draw`` has drawn on, whatever the user's settings of matplotlib are.

    Raises ``MissingExtraError`` without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot") from None
    theme = theme_of(dark)
    with _settings(theme):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure, theme)
    return figure


def render(figure: Figure, kind: str) -> bytes:
    """The figure as ``png`` or ``svg``; the same figure, the same bytes (of one version of matplotlib)."""
    if kind not in FORMATS:
        raise ArgumentError(f"format: found {kind!r}; allowed: {', '.join(FORMATS)}")
    metadata: dict[str, Any] = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    stream = io.BytesIO()
    with _settings(None):
        figure.savefig(stream, format=kind, dpi=200, metadata=metadata)
    return stream.getvalue()


def plain(axes: Axes, theme: Theme) -> None:
    """Only the two axes that carry numbers, and a faint grid behind the lines."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(True, color=theme.grid, linewidth=0.6)
    axes.set_axisbelow(True)


@contextmanager
def _settings(theme: Theme | None) -> Iterator[None]:
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
