"""Long tables: rows of many sequences, in any order, that columns assign to sequences and order in time.

The numbers of the rows go to a temporary file as they come.  Then the rows of a sequence are read from it in the order
of their time.  Memory holds the names, times and places of the rows alone: 8 bytes of each a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from critinit.dual import Array
from critinit.errors import DataError
from critinit.inputs.chunks import Source, ragged
from critinit.inputs.spool import Spool
from critinit.inputs.table_cells import Numerals, numbers, place, times

__all__ = ["Sorting", "long_table"]


class Sorting(NamedTuple):
    """What assigns rows to sequences and orders them.

    Attributes:
        groups: Keys and labels of the columns that together name a sequence.
        time: Key and label of the column of times; None as its key: rows keep their order.
        formats: Formats of dates beside ISO 8601.
    """

    groups: Sequence[tuple[str, str]]
    time: tuple[str | None, str]
    formats: Sequence[str]


def long_table(
    name: str,
    batches: Iterable[Any],
    keys: Sequence[str],
    labels: Sequence[str],
    sorting: Sorting,
    written: Numerals,
    drop: bool,
    progress: Callable[[int], None],
) -> Source:
    """Return a long table as a source, after one pass over it.

    Args:
        name: The table.
        batches: Batches of its rows.
        keys: Keys of the columns to measure.
        labels: Their names.
        sorting: What assigns rows to sequences.
        written: How numbers in texts are written.
        drop: Whether rows may lack a name or time; their numbers then count as missing.
        progress: Called with how many numbers have been read.

    Raises:
        DataError: A cell is no number, or a row lacks its name or time.
    """
    codes: list[dict[Any, int]] = [{} for _ in sorting.groups]
    order: list[list[NDArray[Any]]] = [[] for _ in range(len(sorting.groups) + 1)]
    with Spool(name) as spool:
        for batch in batches:
            at = spool.rows
            values = numbers(name, [batch.column(key) for key in keys], labels, at, written)
            lacks = np.zeros(len(values), dtype=np.bool_)
            for n, (key, label) in enumerate(sorting.groups):
                names = _coded(batch.column(key), codes[n])
                lacks |= _checked(name, names < 0, label, at, drop)
                order[n].append(names)
            time, label = sorting.time
            if time is not None:
                found, lack = times(name, batch.column(time), label, at, written, sorting.formats)
                lacks |= _checked(name, lack, label, at, drop)
                order[-1].append(found)
            values[lacks] = np.nan
            spool.add(values)
            progress(spool.rows * len(keys))
        if not spool.rows:
            raise DataError(found="no row", allowed="at least one", source=name)
        stored = spool.numbers()
    columns = [np.concatenate(parts) for parts in order if parts]
    groups, instants = columns[: len(codes)], columns[len(codes) :]
    rows = np.lexsort([*instants, *groups])
    return _source(name, stored, labels, rows, groups, instants, bool(codes))


def _source(
    name: str,
    stored: Array,
    labels: Sequence[str],
    rows: NDArray[np.int64],
    groups: Sequence[NDArray[Any]],
    instants: Sequence[NDArray[Any]],
    has_groups: bool,
) -> Source:
    """The rows in their order as a source."""
    ordered = [group[rows] for group in groups]
    new = np.zeros(len(rows), dtype=np.bool_)
    new[0] = True
    for group in ordered:
        new[1:] |= group[1:] != group[:-1]
    starts = np.flatnonzero(new)
    lengths = np.diff(starts, append=len(rows))

    def read(wanted: NDArray[np.int64], begin: int, end: int) -> Array:
        return np.asarray(stored[rows[starts[wanted][:, None] + np.arange(begin, end)]])

    order, chunks = ragged(lengths, len(labels), read)

    def where(i: int, t: int, f: int) -> str:
        return place(int(rows[starts[order[i]] + t]), labels[f])

    steps = int(lengths.max()) if len(starts) > 1 else None
    notes = tuple(_notes(instants[0][rows], new, has_groups)) if instants else ()
    return Source(name, steps, len(labels), tuple(labels), chunks, where, may_be_ids=len(labels) == 1, notes=notes)


def _notes(instants: NDArray[Any], new: NDArray[np.bool_], has_groups: bool) -> Iterator[str]:
    """What is odd about the times of rows in their order."""
    same = int(np.sum((instants[1:] == instants[:-1]) & ~new[1:]))
    if same:
        way = "another column may name the sequences too" if has_groups else "--group states what names the sequences"
        yield f"{same:,} rows have the same time as the row before them in their sequence: {way}"


def _coded(column: Any, codes: dict[Any, int]) -> NDArray[np.int64]:
    """Names of sequences as numbers, the same for the same name; −1 where there is none."""
    encoded = column if hasattr(column, "dictionary") else column.dictionary_encode()
    known = [-1 if value is None else codes.setdefault(value, len(codes)) for value in encoded.dictionary.to_pylist()]
    places = encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
    return np.asarray(np.array([*known, -1], dtype=np.int64)[places])


def _checked(name: str, lacks: NDArray[np.bool_], label: str, at: int, drop: bool) -> NDArray[np.bool_]:
    """Which rows lack a name or a time; refuses the first unless such rows are to be left out."""
    if not drop and np.any(lacks):
        where, hint = place(at + int(np.argmax(lacks)), label), 'missing="drop" (--missing drop) leaves such steps out'
        raise DataError(
            where, found="nothing", allowed="what names the sequence or orders the rows", hint=hint, source=name
        )
    return lacks
