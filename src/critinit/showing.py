"""Tables that notebooks (as HTML) and rich's ``print`` show; rich is imported only where something is shown with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, NamedTuple

__all__ = ["Shown", "Table", "aligned"]


class Table(NamedTuple):
    """A table's title, the names of its columns and its rows, all as text; lines of text below it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    below: tuple[str, ...] = ()


class Shown:
    """What is shown as the tables that ``_tables`` gives."""

    __slots__ = ()

    def _tables(self) -> Iterable[Table]:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        """Tables, in a notebook."""
        return "".join(map(_html, self._tables()))

    def __rich__(self) -> Any:
        """Tables, where rich prints it."""
        from rich import box
        from rich.console import Group
        from rich.table import Table as RichTable
        from rich.text import Text

        shown: list[Any] = []
        for table in self._tables():
            one = RichTable(*table.columns, title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD)
            for row in table.rows:
                one.add_row(*map(Text, row))
            shown += [one, *map(Text, table.below)]
        return Group(*shown)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a line of text for each row, with the columns below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _html(table: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    caption = f'<caption style="text-align: left"><b>{escape(table.title)}</b></caption>'
    below = "".join(f"<p>{escape(line)}</p>" for line in table.below)
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"
