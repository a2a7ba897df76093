"""Tables for people."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import TextIO

__all__ = ["number", "render"]

_UNBOUNDED = 160
"""Characters of a line where no terminal bounds it."""


def number(value: float | None, *, missing: str = "-") -> str:
    """A number in six digits."""
    return missing if value is None else f"{value:.6g}"


def render(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: Sequence[int] = (0,),
    wrap: Sequence[int] = (),
    stream: TextIO | None = None,
) -> str:
    """A table as text for ``stream`` (stdout): the columns numbered ``left`` to the left, numbers to the right.

    Columns numbered ``wrap`` are folded where there is no room for them.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    stream = sys.stdout if stream is None else stream
    on_terminal = stream is not None and stream.isatty()
    encoding = (getattr(stream, "encoding", None) or "ascii").lower()
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD if encoding.startswith("utf") else box.ASCII)
    for n, column in enumerate(columns):
        table.add_column(column, justify="left" if n in left else "right", no_wrap=n not in wrap, overflow="fold")
    for row in rows:
        table.add_row(*row)
    text = io.StringIO()
    console = Console(
        file=text,
        force_terminal=on_terminal,
        width=None if on_terminal else _UNBOUNDED,
        markup=False,
        highlight=False,
        emoji=False,
    )
    if console.measure(table, options=console.options.update(width=_UNBOUNDED)).maximum > console.width:
        table.padding = (0, 1, 0, 0)  # closer together where there is little room
    console.print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
