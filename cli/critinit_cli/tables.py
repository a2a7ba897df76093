"""Tables for people, and the lines around them."""

from __future__ import annotations

import io
import re
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

    Where there is little room, columns stand closer, those of ``wrap`` are folded, then headings, also at hyphens.
    Numbers are never cut, as a number without its exponent is another one; then lines are longer than the terminal.

    Args:
        title: What stands above it.
        columns: The headings; a heading may have several lines.
        rows: The cells.
        left: The numbers of the columns that stand to the left; the others, numbers, stand to the right.
        wrap: The numbers of the columns that are folded where there is no room for them.
        stream: Where it will be shown; stdout unless given.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    stream = sys.stdout if stream is None else stream
    on_terminal = stream is not None and stream.isatty()
    encoding = (getattr(stream, "encoding", None) or "ascii").lower()
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD if encoding.startswith("utf") else box.ASCII)
    for n, column in enumerate(columns):
        table.add_column(column, justify="left" if n in left else "right", no_wrap=n not in wrap, overflow="fold")
    rows = [[fitted(cell, stream) for cell in row] for row in rows]
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
    free = console.options.update(width=sys.maxsize)
    if console.measure(table, options=free).maximum > console.width:
        table.padding, table.pad_edge = (0, 1, 0, 0), False
        parts = [[column, *(row[n] for row in rows)] for n, column in enumerate(columns)]
        most = [max(cell_len(line) for part in column for line in part.splitlines() or [""]) for column in parts]
        between = console.measure(table, options=free).maximum - sum(most)
        widths = _widths(parts, most, console.width - between, wrap)
        for shown, heading, width in zip(table.columns, columns, widths, strict=True):
            lines = [textwrap.wrap(line, max(width, 1)) or [""] for line in heading.splitlines() or [""]]
            shown.header, shown.width = "\n".join(line for part in lines for line in part), width
        console.width = max(console.width, between + sum(widths))
    console.print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _widths(columns: Sequence[Sequence[str]], most: Sequence[int], room: int, wrap: Sequence[int]) -> list[int]:
    """The widths of columns, which together fit into the room as far as no word of prose and no number is cut.

    Args:
        columns: The heading and the cells of each.
        most: The widths at which nothing is folded.
        room: Characters for all of them.
        wrap: The numbers of those whose cells may be folded, which are narrowed first.
    """
    from rich.cells import cell_len

    least = []
    for n, (heading, *cells) in enumerate(columns):
        parts = [
            *re.split(r"\s|(?<=-)", heading),
            *(word for cell in cells for word in (cell.split() if n in wrap else [cell])),
        ]
        least.append(max(map(cell_len, parts), default=0))
    widths = list(most)
    for narrow in (wrap, range(len(columns))):
        while sum(widths) > room and (slack := [n for n in narrow if widths[n] > least[n]]):
            widths[max(slack, key=lambda n: widths[n])] -= 1
    return widths
