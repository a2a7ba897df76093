"""Tables in text (csv), Parquet and Arrow (Feather) files, which pyarrow reads batch by batch."""

from __future__ import annotations

import csv
import re
import reprlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from critinit.dual import Array
from critinit.errors import ArgumentError, DataError, MissingExtraError
from critinit.inputs.chunks import Chunk, Source, axes_of

try:
    import pyarrow as pa
    from pyarrow import compute, ipc, parquet
    from pyarrow import csv as text
except ImportError:
    raise MissingExtraError("pyarrow", "data") from None

__all__ = ["table"]

_LONGEST_LINE = 2**24
"""Characters that are read of the first line; a line of names for 2**20 columns has fewer."""
_BATCH = 2**20
"""Bytes of text in a batch; pyarrow's own default."""
_CELL = 64
"""Bytes for each cell that a batch must have room for; a number in full precision has 25."""
_DELIMITERS = "\t;, "
"""What may stand between cells; the first that the line holds is taken, for commas and blanks may be part of cells."""
_CHOOSE = "to leave columns out, name those to measure: columns=[...] (--columns NAMES)"
_POINT = "write numbers with a decimal point and no thousands separators: 1234.5, not 1.234,5 or 1,234.5"


class _Table(NamedTuple):
    """The columns' keys for pyarrow, their names if they have any, and what reads batches of columns by their keys."""

    keys: Sequence[str]
    names: Sequence[str] | None
    batches: Callable[[list[str], int], Iterator[Any]]


def table(name: str, layout: str | None, columns: Sequence[str] | None) -> Source:
    """Return a table as a source: rows are steps and columns features or, with layout NT, rows are sequences."""
    across = axes_of(layout, 2) == "NT"
    if not across and axes_of(layout, 2) != "TF":
        allowed = "TF (a row is a step, a column a feature) or NT (a row is a sequence, a column a step)"
        raise ArgumentError("layout", found=f"{layout!r} for a table", allowed=allowed)
    with _whole(name):
        found = _OPENED.get(Path(name).suffix.lower(), _delimited)(name)
    labels = found.names or found.keys
    chosen = list(range(len(labels))) if columns is None else _chosen(name, labels, columns)
    if not chosen:
        raise DataError(found="no column", allowed="at least one", source=name)

    def chunks(limit: int) -> Iterator[Chunk]:
        at, rows = 0, max(1, limit // len(chosen))
        with _whole(name):
            for batch in found.batches([found.keys[i] for i in chosen], rows):
                columns = [_numbers(name, batch.column(found.keys[i]), labels[i], at) for i in chosen]
                values = np.stack(columns, axis=1)
                for start in range(0, len(values), rows):
                    part = values[start : start + rows]
                    yield Chunk(part[:, :, None], at + start, 0) if across else Chunk(part[None], 0, at + start)
                at += len(values)

    def place(i: int, t: int, f: int) -> str:
        return _place(i, labels[chosen[t]]) if across else _place(t, labels[chosen[f]])

    if across:
        return Source(name, len(chosen), 1, None, chunks, place)
    return Source(name, None, len(chosen), tuple(labels[i] for i in chosen), chunks, place)


def _chosen(name: str, labels: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Where the chosen columns stand."""
    wanted = dict.fromkeys(map(str, columns))
    for column in wanted:
        if column not in labels:
            listed = ", ".join(labels[:20]) + (", …" if len(labels) > 20 else "")
            raise ArgumentError("columns", found=repr(column), allowed=f"in {name}: {listed}")
    return [labels.index(column) for column in wanted]


def _place(row: int, label: str) -> str:
    """Where a cell stands; rows count from 0, without the line of names."""
    return f"row {row}, column {label if label.isprintable() else ascii(label)}"


@contextmanager
def _whole(name: str) -> Iterator[None]:
    """Say in one line what cannot be read."""
    try:
        yield
    except (pa.ArrowException, csv.Error, OSError, KeyError, UnicodeDecodeError) as error:
        why = str(error).partition("\n")[0]
        found = f"no {Path(name).suffix.lower()} file, or a damaged one ({why})"
        raise DataError(found=found, allowed="a whole one", source=name) from None


def _numbers(name: str, column: Any, label: str, at: int) -> Array:
    """The numbers in a column whose first row is ``at``; NaN where there is none."""
    try:
        return _floats(column)
    except pa.ArrowException:
        row = next(row for row in range(len(column)) if not _are_numbers(column[row : row + 1]))
    cell = column[row].as_py()
    grouped = isinstance(cell, str) and any(c in cell for c in ",'") and not cell.strip("0123456789+-.,' ")
    hint = _POINT if grouped else _CHOOSE
    raise DataError(_place(at + row, label), found=reprlib.repr(cell), allowed="a number", hint=hint, source=name)


def _floats(column: Any) -> Array:
    """A column as floating-point numbers, NaN where a cell is empty."""
    if pa.types.is_string(column.type):
        column = compute.utf8_trim_whitespace(column)
        column = compute.if_else(compute.equal(column, ""), None, column)
    numbers: Array = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers


def _are_numbers(cells: Any) -> bool:
    try:
        _floats(cells)
    except pa.ArrowException:
        return False
    return True


def _parquet(name: str) -> _Table:
    """A Parquet file."""
    file = parquet.ParquetFile(name)
    names = file.schema_arrow.names
    return _Table(names, names, lambda keys, rows: file.iter_batches(rows, columns=keys, use_threads=False))


def _arrow(name: str) -> _Table:
    """An Arrow file, such as Feather's; its batches are as large as they were written."""
    file = ipc.open_file(pa.memory_map(name))
    names = file.schema.names
    return _Table(names, names, lambda *_: (file.get_batch(i) for i in range(file.num_record_batches)))


_OPENED = {".parquet": _parquet, ".pq": _parquet, ".feather": _arrow, ".arrow": _arrow}


def _delimited(name: str) -> _Table:
    """A table of text; its first line holds names where not all of it is numbers, or where it counts the columns."""
    line, number = _first_line(name)
    bare = re.sub('"[^"]*"', "", line)
    delimiter = "\t" if Path(name).suffix.lower() == ".tsv" else next((d for d in _DELIMITERS if d in bare), ",")
    if delimiter == " " and ("  " in line or line != line.lstrip(" ")):
        hint = "numpy.loadtxt reads such files: save what it returns with numpy.save, and measure that"
        raise DataError(found="several blanks between cells", allowed="one delimiter", hint=hint, source=name)
    cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]
    keys = [str(n) for n in range(len(cells))]
    filled = [cell for cell in cells if cell not in text.ConvertOptions().null_values]
    header = not _are_numbers(pa.array(filled, pa.string())) or (len(filled) > 1 and filled == keys[: len(filled)])
    skipped = number if header else number - 1

    def batches(chosen: list[str], _: int) -> Iterator[Any]:
        if header and not line.endswith("\n"):  # pyarrow takes a file without rows for a damaged one
            return
        ragged: list[Any] = []

        def refuse(row: Any) -> str:
            ragged.append(row)
            return "error"

        read = text.ReadOptions(
            use_threads=False,
            block_size=max(_BATCH, _CELL * len(cells), 2 * len(line)),
            column_names=keys,
            skip_rows=skipped,
        )
        parse = text.ParseOptions(delimiter=delimiter, invalid_row_handler=refuse)
        types = {key: pa.string() for key in chosen}
        convert = text.ConvertOptions(column_types=types, include_columns=chosen, strings_can_be_null=True)
        try:
            yield from text.open_csv(name, read, parse, convert)
        except pa.ArrowInvalid:
            if not ragged:
                raise
            found, allowed = f"{ragged[0].actual_columns} cells", f"{len(cells)}, as in the first line"
            place, hint = f"row {ragged[0].number - skipped - 1}", _POINT if delimiter == "," else ""
            raise DataError(place, found=found, allowed=allowed, hint=hint, source=name) from None

    return _Table(keys, [cell or key for cell, key in zip(cells, keys, strict=True)] if header else None, batches)


def _first_line(name: str) -> tuple[str, int]:
    """The first line that is not blank, and its number from 1."""
    with open(name, encoding="utf-8-sig") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(_LONGEST_LINE), ""), 1):
            if len(line) == _LONGEST_LINE:
                found = f"a first line of more than {_LONGEST_LINE:,} characters"
                raise DataError(found=found, allowed="a shorter one", source=name)
            if line.strip():
                return line, number
    raise DataError(found="no line", allowed="at least one row of numbers", source=name)
