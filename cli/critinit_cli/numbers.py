"""The numbers of a layer as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from critinit_cli.tables import render

if TYPE_CHECKING:
    from critinit.spec import InitSpec, Numbers

__all__ = ["layers_as_text"]


def layers_as_text(spec: InitSpec, columns: Mapping[str, Sequence[Numbers | None]], of: str = "") -> str:
    """A table for each layer, and the notes on its numbers.

    ``columns``: title -> the numbers of every layer; ``of``: what they are of, for the tables' titles.
    """
    from critinit.spec.tables import heading, number_rows

    parts = []
    for index in range(len(spec.layers)):
        readings = {name: numbers[index] for name, numbers in columns.items()}
        rows = [[cell.replace("±", "+-") for cell in row] for row in number_rows(readings.values())]
        title = heading(spec, index) + (f", {of}" if of else "")
        parts.append(render(title, ("", *readings), rows, wrap=(0,)))
        for name, numbers in readings.items():
            notes = ("no such reading: an identity kernel cannot be drawn anew",) if numbers is None else numbers.notes
            parts.extend(f"{name}: {note}\n" for note in notes)
    return "".join(parts)
