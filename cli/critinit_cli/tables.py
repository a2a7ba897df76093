"""Tables for people, and the lines around them."""

from __future__ import annotations

import io
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO

from critinit_cli.output import fitted

__all__ = ["GLOSSARY", "paragraph", "render"]

GLOSSARY = "docs/glossary.md says what each number means, which values are good, and what to do about others.\n"
"""The line below every table of numbers."""

_UNBOUNDED = 160
"""Characters of a line of a table where no terminal bounds it."""
_READABLE = 100
"""Characters of a line of prose."""


def paragraph(text: str, *, indent: str = "") -> str:
    """Return prose in lines that are good to read.

    Args:
        text: The prose.
        indent: What every line but the first begins with.
    """
    lines = textwrap.wrap(text, _READABLE, subsequent_indent=indent, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def render(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: Sequence[int] = (0,),
    wrap: Sequence[int] = (),
    stream: TextIO | None = None,
) -> str:
    """Return a table as text.

    Args:
        title: What stands above it.
        columns: The headings; a heading may have several lines.
        rows: The cells.
        left: The numbers of the columns that stand to the left; the others, numbers, stand to the right.
        wrap: The numbers of the columns that are folded where there is no room for them.
        stream: Where it will be shown; stdout unless given.
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
        table.add_row(*(fitted(cell, stream) for cell in row))
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
