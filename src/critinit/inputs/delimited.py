"""Tables of text: csv with commas, semicolons, tabs or blanks, with or without a line of names; read line by line.

The first line holds names where a cell of it is no number, or where it counts the columns (0, 1, 2, …).
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TextIO

import numpy as np

from critinit.inputs.blocks import Block, Source
from critinit.inputs.tables import choose, table_blocks, table_source
from critinit.dual import Array
from critinit.errors import DataError
from critinit.spec.reading import show

__all__ = ["table"]

_LONGEST_LINE = 2**26
_DELIMITERS = (",", ";", "\t")

_Lines = list[tuple[int, str]]


def table(path: str | os.PathLike[str], layout: str | None, columns: Sequence[str] | None) -> Source:
    """A file of delimited text as a source."""
    name = os.fspath(path)
    with _lines(name) as lines:
        first = next(lines, None)
    if first is None:
        raise DataError(f"{name}: found no line; allowed: at least one row of numbers")
    delimiter = _delimiter(first[1])
    cells = _cells(name, first, delimiter)
    header = _is_header(cells)
    names = tuple(cell.strip() for cell in cells) if header else None
    width = len(cells)
    index = choose(name, names, width, columns)

    def rows(limit: int) -> Iterator[Array]:
        with _lines(name) as lines:
            if header:
                next(lines)
            count = max(1, limit // width)
            while chunk := list(islice(lines, count)):
                yield _parse(name, chunk, delimiter, width, index, names)

    def blocks(limit: int) -> Iterator[Block]:
        return table_blocks(rows(limit), layout)

    return table_source(name, names, index, layout, blocks)


@contextmanager
def _lines(name: str) -> Iterator[Iterator[tuple[int, str]]]:
    """The lines that are not blank, with their numbers from 1."""
    with open(name, encoding="utf-8-sig", newline=None) as stream:
        yield _numbered(name, stream)


def _numbered(name: str, stream: TextIO) -> Iterator[tuple[int, str]]:
    number = 0
    while True:
        number += 1
        try:
            line = stream.readline(_LONGEST_LINE)
        except UnicodeDecodeError:
            raise DataError(f"{name}: line {number}: found bytes that are not UTF-8; allowed: text") from None
        if not line:
            return
        if len(line) == _LONGEST_LINE:
            raise DataError(f"{name}: line {number}: found more than {_LONGEST_LINE:,} characters; allowed: fewer")
        if line.strip():
            yield number, line.rstrip("\n")


def _delimiter(line: str) -> str | None:
    """The delimiter of a line; None for blanks."""
    counts = {delimiter: line.count(delimiter) for delimiter in _DELIMITERS}
    best = max(counts, key=lambda delimiter: counts[delimiter])
    if counts[best]:
        return best
    return None if len(line.split()) > 1 else ","


def _cells(name: str, line: tuple[int, str], delimiter: str | None) -> list[str]:
    number, text = line
    if delimiter is None:
        return text.split()
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error as error:
        raise DataError(f"{name}: line {number}: {error}; allowed: a table of numbers") from None


def _is_number(cell: str) -> bool:
    if "_" in cell:  # a number for Python, not for tables
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_header(cells: list[str]) -> bool:
    """Empty cells tell nothing: they are missing numbers, or the name of an index."""
    counts = [cell.strip() for cell in cells if cell.strip()]
    return any(not _is_number(cell) for cell in counts) or (
        len(counts) > 1 and counts == [str(n) for n in range(len(counts))]
    )


def _parse(
    name: str, lines: _Lines, delimiter: str | None, width: int, index: tuple[int, ...], names: tuple[str, ...] | None
) -> Array:
    """Rows of numbers, (lines, chosen columns)."""
    try:
        rows = np.loadtxt(
            [text for _, text in lines], delimiter=delimiter, quotechar='"', comments=None, ndmin=2, dtype=np.float64
        )
    except ValueError:
        rows = None
    if rows is not None and rows.shape[1] == width:
        rows = rows[:, index]
        if np.all(np.isfinite(rows)):
            return rows
    return np.array([_row(name, line, delimiter, width, index, names) for line in lines])


def _row(
    name: str,
    line: tuple[int, str],
    delimiter: str | None,
    width: int,
    index: tuple[int, ...],
    names: tuple[str, ...] | None,
) -> list[float]:
    """One row, cell by cell: where a cell is no finite number, which one."""
    number, _ = line
    cells = _cells(name, line, delimiter)
    if len(cells) != width:
        raise DataError(f"{name}: line {number}: found {len(cells)} cells; allowed: {width}, as in the first line")
    row = []
    for column in index:
        cell = cells[column].strip()
        if not _is_number(cell) or not np.isfinite(float(cell)):
            what = show(names[column]) if names else str(column)
            found = show(cell) if cell else "an empty cell"
            raise DataError(f"{name}: line {number}, column {what}: found {found}; allowed: a finite number")
        row.append(float(cell))
    return row
