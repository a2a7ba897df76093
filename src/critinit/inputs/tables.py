"""Tables in text (csv), Parquet and Arrow (Feather) files, which pyarrow reads batch by batch."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from critinit.errors import ArgumentError, DataError, MissingExtraError
from critinit.inputs.chunks import Chunk, Source, axes_of, chosen, position
from critinit.inputs.delimited import delimited
from critinit.inputs.long_tables import Sorting, long_table
from critinit.inputs.nested import nested_table
from critinit.inputs.opened import Opened
from critinit.inputs.table_cells import Numerals, check_types, is_list, numbers, place
from critinit.inputs.text_options import TextOptions

try:
    import pyarrow as pa
    from pyarrow import ipc, parquet
except ImportError:
    raise MissingExtraError("pyarrow", "data") from None

__all__ = ["Rows", "table"]


class Rows(NamedTuple):
    """What says how the rows of a table make sequences.

    Attributes:
        layout: The axes as they are stored, TF or NT.
        group: Columns that name the sequence of a row.
        time: The column by which the rows of a sequence are ordered.
    """

    layout: str | None = None
    group: Sequence[str] = ()
    time: str | None = None


def table(
    name: str,
    columns: Sequence[str] | None,
    rows: Rows,
    options: TextOptions,
    *,
    drop: bool,
    progress: Callable[[int], None],
) -> Source:
    """Return a table as a source: rows are steps and columns features or, with layout NT, rows are sequences.

    Args:
        name: The file.
        columns: The columns to measure, or to leave out.
        rows: How its rows make sequences.
        options: How text is written.
        drop: Whether rows may lack what orders them; they are then left out.
        progress: Called with how many numbers have been read, where all are before the first chunk.
    """
    across = axes_of(rows.layout, 2) == "NT"
    if not across and axes_of(rows.layout, 2) != "TF":
        allowed = "TF (a row is a step, a column a feature) or NT (a row is a sequence, a column a step)"
        raise ArgumentError("layout", found=f"{rows.layout!r} for a table", allowed=allowed)
    with _whole(name):
        found = _open(name, options)
    labels = list(found.names or found.keys)
    special = {"group": rows.group, "time": (rows.time,) if rows.time else ()}
    for argument, names in special.items():
        if across and names:
            allowed = "with rows that are steps"
            raise ArgumentError(argument, found="rows that are sequences (layout NT)", allowed=allowed)
        for label in names:
            if label not in labels:
                listed = ", ".join(labels[:20]) + (", …" if len(labels) > 20 else "")
                raise ArgumentError(argument, found=repr(label), allowed=f"in {name}: {listed}")
    named = {label for names in special.values() for label in names}
    picked = chosen(name, labels, columns)
    if columns is None or any(column not in labels for column in columns):  # not those that say what a row is
        picked = [n for n in picked if labels[n] not in named]
    if not picked:
        raise DataError(found="no column", allowed="at least one", source=name)
    keys, wanted = [found.keys[n] for n in picked], [labels[n] for n in picked]
    written = Numerals(options.decimal_point, options.thousands)
    if found.types is not None:
        types = [found.types[n] for n in picked]
        if any(map(is_list, types)):
            if across or named:
                argument = "layout" if across else "group" if rows.group else "time"
                allowed = "with one number in each cell"
                raise ArgumentError(argument, found="columns of lists, whose rows are sequences", allowed=allowed)
            with _whole(name):
                return nested_table(name, found.batches(keys, _rows(len(keys))), wanted, types, drop, progress)
        check_types(name, wanted, types)
    if named:
        orders = [found.keys[position(name, labels, label, "group")] for label in rows.group]
        time = None if rows.time is None else found.keys[position(name, labels, rows.time, "time")]
        sorting = Sorting(
            list(zip(orders, rows.group, strict=True)), (time, rows.time or ""), options.timestamp_parsers
        )
        read = list(dict.fromkeys([*keys, *orders, *([] if time is None else [time])]))
        with _whole(name):
            return long_table(
                name, found.batches(read, _rows(len(read))), keys, wanted, sorting, written, drop, progress
            )

    def chunks(limit: int) -> Iterator[Chunk]:
        at, most = 0, max(1, limit // len(keys))
        with _whole(name):
            for batch in found.batches(keys, most):
                values = numbers(name, [batch.column(key) for key in keys], wanted, at, written)
                for start in range(0, len(values), most):
                    part = values[start : start + most]
                    yield Chunk(part[:, :, None], at + start, 0) if across else Chunk(part[None], 0, at + start)
                at += len(values)

    def where(i: int, t: int, f: int) -> str:
        return place(i, wanted[t]) if across else place(t, wanted[f])

    if across:
        return Source(name, len(keys), 1, None, chunks, where, may_be_ids=True)
    may_be_ids = found.names is None or len(keys) == 1
    return Source(name, None, len(keys), tuple(wanted), chunks, where, may_be_ids)


def _rows(columns: int) -> int:
    """How many rows a batch has of a table that is read before the first chunk."""
    return max(1, 2**18 // columns)  # numbers, as in a chunk


@contextmanager
def _whole(name: str) -> Iterator[None]:
    """Say in one line what cannot be read."""
    try:
        yield
    except (pa.ArrowException, csv.Error, OSError, KeyError, UnicodeError) as error:
        why = str(error).partition("\n")[0]
        found = f"no {Path(name).suffix.lower()} file, or a damaged one ({why})"
        raise DataError(found=found, allowed="a whole one", source=name) from None


def _open(name: str, options: TextOptions) -> Opened:
    """Open a table by its ending."""
    ending = Path(name).suffix.lower()
    if ending in _BINARY:
        if options != TextOptions():
            allowed = "with a table of text (csv), whose numbers can be written in several ways"
            raise ArgumentError("csv", found=f"it, for a {ending} file", allowed=allowed)
        return _BINARY[ending](name)
    return delimited(name, options)


def _parquet(name: str) -> Opened:
    """A Parquet file."""
    file = parquet.ParquetFile(name)
    schema = file.schema_arrow

    def batches(keys: Sequence[str], rows: int) -> Iterator[Any]:
        yield from file.iter_batches(rows, columns=list(keys), use_threads=False)

    return Opened(schema.names, schema.names, schema.types, batches)


def _arrow(name: str) -> Opened:
    """An Arrow file, such as Feather's, or a stream; its batches are as large as they were written."""
    mapped = pa.memory_map(name)
    try:
        file = ipc.open_file(mapped)
    except pa.ArrowInvalid as error:
        try:
            mapped.seek(0)
            stream = ipc.open_stream(mapped)
        except pa.ArrowException:
            raise error from None
        return Opened(stream.schema.names, stream.schema.names, stream.schema.types, lambda *_: map(_valid, stream))
    names, types = file.schema.names, file.schema.types
    return Opened(names, names, types, lambda *_: (_valid(file.get_batch(i)) for i in range(file.num_record_batches)))


def _valid(batch: Any) -> Any:
    """The batch, whose places in memory are those of the file and may be damaged."""
    batch.validate(full=True)
    return batch


_BINARY: Mapping[str, Callable[[str], Opened]] = {
    ".parquet": _parquet, ".pq": _parquet, ".feather": _arrow, ".arrow": _arrow, ".ipc": _arrow,
}  # fmt: skip
