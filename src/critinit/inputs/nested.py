"""Tables whose cells hold lists: a row is a sequence, and each of its lists has the steps of one or more features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critinit.dual import Array
from critinit.errors import DataError, MissingExtraError
from critinit.inputs.chunks import Source, leave_out, ragged
from critinit.inputs.spool import Spool
from critinit.inputs.table_cells import check_types, is_list, numbers

try:
    from pyarrow import compute
except ImportError:
    raise MissingExtraError("pyarrow", "data") from None

__all__ = ["nested_table"]


def nested_table(
    name: str,
    batches: Iterable[Any],
    labels: Sequence[str],
    types: Sequence[Any],
    drop: bool,
    progress: Callable[[int], None],
) -> Source:
    """Return a table of lists as a source, after one pass over it.

    Args:
        name: The table.
        batches: Batches of its rows.
        labels: The names of the columns, which are the keys too.
        types: Arrow's types of them.
        drop: Whether rows without a list are left out.
        progress: Called with how many numbers have been read.

    Raises:
        DataError: Columns hold other things than lists of numbers, or lists of unequal lengths in a row.
    """
    plain = [label for label, kind in zip(labels, types, strict=True) if not is_list(kind)]
    if plain:
        found = f"columns of lists, such as {next(label for label in labels if label not in plain)}, and one without"
        hint = f"leave it out: {leave_out(plain)}"
        raise DataError(f"column {plain[0]}", found=found, allowed="one kind", hint=hint, source=name)
    leaves = [kind.value_type for kind in types]
    check_types(name, labels, [leaf.value_type if is_list(leaf) else leaf for leaf in leaves])
    widths: list[int] = []
    lengths, rows, at = [], [], 0
    with Spool(name) as spool:
        for batch in batches:
            counts = _lengths(name, [batch.column(label) for label in labels], labels, at, drop)
            if np.any(counts):
                steps = [_steps(name, batch.column(label), label, at) for label in labels]
                here = [part.shape[1] for part in steps]
                if here != (widths := widths or here):
                    raise _widths(name, labels[0], at)
                spool.add(np.concatenate(steps, axis=1))
                lengths.append(counts[counts > 0])
                rows.append(at + np.flatnonzero(counts))
                progress(spool.rows * spool.features)
            at += len(counts)
        if not spool.rows:
            raise DataError(found="no row", allowed="at least one", source=name)
        stored = spool.numbers()
    return _source(name, stored, _names(labels, widths), np.concatenate(lengths), np.concatenate(rows), at)


def _source(
    name: str, stored: Array, names: tuple[str, ...], lengths: NDArray[np.int64], rows: NDArray[np.int64], total: int
) -> Source:
    """The sequences in the file as a source."""
    starts = np.cumsum(lengths) - lengths

    def read(wanted: NDArray[np.int64], begin: int, end: int) -> Array:
        return np.asarray(stored[starts[wanted][:, None] + np.arange(begin, end)])

    order, chunks = ragged(lengths, len(names), read)

    def where(i: int, t: int, f: int) -> str:
        return f"row {rows[order[i]]}, column {names[f]}, step {t}"

    steps = int(lengths.max()) if len(lengths) > 1 else None
    without = total - len(rows)
    notes = (f"{without:,} of {total:,} rows hold no list and were left out",) if without else ()
    return Source(name, steps, len(names), names, chunks, where, may_be_ids=len(names) == 1, notes=notes)


def _names(labels: Sequence[str], widths: Sequence[int]) -> tuple[str, ...]:
    """The names of the features: those of the columns, with a number where a column has several."""
    return tuple(
        label if width == 1 else f"{label}[{n}]"
        for label, width in zip(labels, widths, strict=True)
        for n in range(width)
    )


def _lengths(name: str, columns: Sequence[Any], labels: Sequence[str], at: int, drop: bool) -> NDArray[np.int64]:
    """How many steps the sequence of each row has."""
    found = [np.asarray(compute.fill_null(compute.list_value_length(column), 0), dtype=np.int64) for column in columns]
    for label, other in zip(labels[1:], found[1:], strict=True):
        if np.any(unlike := other != found[0]):
            row = int(np.argmax(unlike))
            what = f"{other[row]} steps in {label} and {found[0][row]} in {labels[0]}"
            raise DataError(
                f"row {at + row}",
                found=what,
                allowed="as many in each",
                hint=f"leave it out: {leave_out([label])}",
                source=name,
            )
    if not drop and not np.all(found[0]):
        hint = 'missing="drop" (--missing drop) leaves such steps out'
        row = at + int(np.argmin(found[0] != 0))
        raise DataError(f"row {row}", found="no list, or an empty one", allowed="one step", hint=hint, source=name)
    return found[0]


def _steps(name: str, column: Any, label: str, at: int) -> Array:
    """The steps of all rows, one after the other, (steps, features)."""
    inside = column.flatten()
    if not is_list(inside.type):
        return numbers(name, [inside], [label], 0, steps=f"in the rows from {at} on")
    widths = np.asarray(compute.fill_null(compute.list_value_length(inside), 0), dtype=np.int64)
    if len(widths) and (not widths[0] or np.any(widths != widths[0])):
        raise _widths(name, label, at)
    leaf = inside.flatten()
    found = numbers(name, [leaf], [label], 0, steps=f"in the rows from {at} on")
    return found.reshape(len(widths), -1) if len(widths) else np.zeros((0, 1))


def _widths(name: str, label: str, at: int) -> DataError:
    """The error for steps of unequal widths."""
    return DataError(
        f"column {label}, in the rows from {at} on",
        found="steps of unequal numbers of features",
        allowed="as many in each step",
        source=name,
    )
