"""From a file, an array or a list of arrays to the statistics of the inputs in it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from critinit.errors import ArgumentError, DataError
from critinit.files import refusal
from critinit.inputs.array_files import FILES, array_file
from critinit.inputs.arrays import in_memory
from critinit.inputs.chunks import Chunk, Source, leave_out
from critinit.inputs.moments import Moments
from critinit.inputs.sideways import sideways
from critinit.inputs.statistics import InputStatistics
from critinit.inputs.text_options import text_options

__all__ = ["CHUNK", "FORMATS", "MISSING", "TOKENS", "measure", "source_of"]

CHUNK = 2**18
"""Numbers read at once: 2 MB, and a few times as much for what is computed of them."""
TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".feather", ".arrow", ".ipc")
"""Endings of tables."""
COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
"""Endings of compressed tables of text, behind their own."""
FORMATS = (*FILES, *TABLES)
"""Endings of the files that can be measured."""
MISSING = ("refuse", "drop")
"""What may be done about missing numbers."""
TOKENS = ("refuse", "length")
"""What may be done about ids of tokens."""

_SEEN = 1000
"""Sequences, and steps of each, that show whether the data lie on their side."""
_LARGEST = 1e50
"""Size of a number; its square is the largest number that a spec can state."""
_SMALLEST = 1e-150
"""Size of the largest number; the squares of smaller ones are below the normal numbers of double precision."""
_ELSEWHERE = {
    ".pt": "save the tensor with safetensors.torch.save_file or numpy.save",
    ".pth": "save the tensor with safetensors.torch.save_file or numpy.save",
    ".pkl": "a pickle could run any code: save the arrays with numpy.savez",
    ".pickle": "a pickle could run any code: save the arrays with numpy.savez",
    ".xlsx": "save the sheet as csv",
    ".xls": "save the sheet as csv",
    ".json": "save the table as csv or Parquet",
    ".jsonl": "save the table as csv or Parquet",
    ".gz": "unpack it first",
    ".xz": "unpack it first",
    ".zip": "unpack it first",
    ".mat": "save the array with numpy.save",
    ".h5": "save the array with numpy.save",
    ".hdf5": "save the array with numpy.save",
}
"""What to do with files that are not read, by their endings."""
_KINDS = {
    b"\x93NUMPY": ("a .npy file", (".npy",), b""),
    b"PAR1": ("a .parquet file", (".parquet", ".pq"), b"PAR1"),
    b"ARROW1\0\0": ("a .arrow file", (".feather", ".arrow", ".ipc"), b""),
    b"PK\x03\x04": ("a zip archive, such as .npz or .xlsx", (".npz",), b""),
}
"""What files are, by their first bytes: a name, the endings of their names, and the last bytes."""


def measure(
    data: Any,
    *,
    layout: str | None = None,
    array: str | None = None,
    columns: Sequence[str] | None = None,
    group: str | Sequence[str] = (),
    time: str | None = None,
    csv: Mapping[str, Any] | None = None,
    missing: Literal["refuse", "drop"] = "refuse",
    tokens: Literal["refuse", "length"] = "refuse",
    spectrum: bool = True,
    chunk_size: int = CHUNK,
    progress: Callable[[int], None] | None = None,
) -> InputStatistics:
    """Return the statistics of the inputs in a file, an array or a list of arrays, in one pass over them.

    Args:
        data: An array; a list of arrays of shape (T,) or (T, F), one for each sequence, whose lengths may differ; or a
            file: .npy, .npz, .safetensors or a table (.csv, .tsv, .txt, also compressed, .parquet, .pq, .feather,
            .arrow, .ipc), which needs pyarrow.  A table's column of lists has a sequence in each row.
        layout: The axes as they are stored, N sequences, T steps, F features; without it T, TF or NTF.  The rows of a
            table are steps and its columns features (TF), or its rows are sequences (NT).
        array: Which array of a file that holds several; a pattern with "*" takes each that fits for one sequence.
            Arrays that ``numpy.savez(file, *sequences)`` wrote are taken so without it.
        columns: The columns to measure, or those to leave out, with "-" before each name.  Columns of a table are
            called by name, and by number from 0 where they have no names; features of an array by number.
        group: The column, or columns, of a long table that name the sequence which a row belongs to.
        time: The column of a table by which the rows of a sequence are ordered: numbers, dates or times.
        csv: How a table of text is written, by the names of pyarrow's options: encoding, skip_rows, column_names,
            autogenerate_column_names, delimiter, quote_char, double_quote, escape_char, newlines_in_values,
            decimal_point, null_values, timestamp_parsers; and thousands, which separates thousands.
        missing: What to do with steps that lack a number (NaN, or an empty cell of a table).  "refuse" raises a
            DataError that says where the first is; "drop" leaves them out, and the steps after them move up.
        tokens: What to do with whole numbers that look like ids of tokens, whose size says nothing of the power of the
            inputs.  "refuse" raises a DataError; "length" measures them, and ``ids`` says that only the length counts.
        spectrum: Whether to measure the spectrum, which the scheme ``memory`` reads; without it the rest is quicker.
        chunk_size: How many numbers to read at once.
        progress: Called with how many numbers have been read so far.

    Raises:
        FileError: The file cannot be read.
        DataError: It does not hold finite numbers in such a shape, or ids of tokens; the error says where, and the way
            out.
        ArgumentError: An argument does not fit the data.
        MissingExtraError: A table without pyarrow.

    Example:
        >>> import numpy as np
        >>> found = measure([np.array([1.0, -1.0, 1.0]), np.array([1.0, -1.0])])
        >>> found.shape, found.input_variance, found.input_correlation, found.padding
        ((2, 3, 1), 1.0, 1.0, None)
    """
    for name, value, allowed in (("missing", missing, MISSING), ("tokens", tokens, TOKENS)):
        if value not in allowed:
            raise ArgumentError(name, found=repr(value), allowed=" or ".join(map(repr, allowed)))
    drop, read, reported = missing == "drop", 0, 0

    def tell(numbers: int) -> None:
        nonlocal reported
        if progress and numbers > reported:  # what is read twice counts once
            reported = numbers
            progress(numbers)

    source = source_of(
        data, layout, array, columns, (group,) if isinstance(group, str) else group, time, csv, drop, tell
    )
    lacking = np.zeros(source.features, dtype=np.int64)

    remarks: list[str] = []
    may_lie = layout is None and not group and time is None and not isinstance(data, (list, tuple))

    def chunks() -> Iterator[Chunk]:
        nonlocal read
        for chunk in source.chunks(chunk_size):
            _check(source, chunk, drop)
            if may_lie and not read:
                remarks.append(sideways(chunk.values[:_SEEN, :_SEEN]))
            yield chunk
            read += chunk.values.size
            if drop:
                lacking.__iadd__(np.isnan(chunk.values).sum(axis=(0, 1)))
            tell(read)

    moments = Moments(source, spectrum=spectrum)
    for chunk in _complete(chunks()) if drop else chunks():
        moments.add(chunk)
    steps = read // source.features
    if moments.count == 0:
        raise _nothing(source, lacking, steps)
    dropped = steps - moments.count
    if dropped:
        remarks.append(f"{dropped:,} of {steps:,} steps lack a number and were left out")
    _check_size(source, moments.largest)
    found = moments.finish(tuple(filter(None, remarks)))
    if found.ids and tokens == "refuse":
        raise _ids(source, found.ids)
    return found


def source_of(
    data: Any,
    layout: str | None,
    array: str | None,
    columns: Sequence[str] | None,
    group: Sequence[str],
    time: str | None,
    csv: Mapping[str, Any] | None,
    drop: bool,
    progress: Callable[[int], None],
) -> Source:
    """Return data as a source; with ``drop`` one sequence follows the other, but for whole ones.

    Args:
        data: As ``measure`` takes them, like all the following.
        layout: The axes as they are stored.
        array: Which array of a file.
        columns: The columns that are inputs.
        group: The columns that name a row's sequence.
        time: The column by which rows are ordered.
        csv: How text is written.
        drop: Whether steps that lack a number are left out.
        progress: Called with the bytes that were read.
    """
    is_path = isinstance(data, (str, os.PathLike))
    ending = _ending(os.fspath(data)) if is_path else ""
    if is_path and ending not in FORMATS:
        found = f"a file name that ends in {ending!r}" if ending else "a file name without ending"
        hint = _ELSEWHERE.get(ending, "save arrays with numpy.save, or a table as csv")
        if os.path.isdir(data):
            found, hint = "a folder", "numpy.savez(FILE, *sequences) puts the sequences of several files into one"
        elif data == "-":
            found, hint = "standard input", "name a file: the ending says what it holds"
        raise ArgumentError("data", found=found, allowed=", ".join(FORMATS), hint=hint)
    if array is not None and ending not in (".npz", ".safetensors"):
        raise ArgumentError("array", found=repr(array), allowed="with an npz or safetensors file, which holds several")
    for name, value in (("group", group), ("time", time), ("csv", csv)):
        if value and ending not in TABLES:
            what = "whose columns have names" if name != "csv" else "of text"
            raise ArgumentError(name, found=repr(value), allowed=f"with a table (such as csv), {what}")
    if not is_path:
        return in_memory(data, layout, columns, apart=drop)
    path = os.fspath(data)
    try:
        with open(path, "rb") as file:
            start = file.read(max(map(len, _KINDS)))
            file.seek(-min(len(start), 4), os.SEEK_END)
            end = file.read()
    except (OSError, ValueError) as error:
        raise refusal(path, error, "a file that can be read") from None
    for first, (kind, endings, last) in _KINDS.items():
        if start.startswith(first) and end.endswith(last) and ending not in endings:
            found = f"{kind}, by its first bytes"
            raise DataError(found=found, allowed=f"what {ending} says", hint="name the file by what it is", source=path)
    if ending in FILES:
        return array_file(path, layout, array, columns, apart=drop)
    options = text_options(csv)
    from critinit.inputs.tables import Rows, table

    return table(path, columns, Rows(layout, group, time), options, drop=drop, progress=progress)


def _ending(path: str) -> str:
    """The ending of a file's name, without that of its compression."""
    *before, last = ["", *(suffix.lower() for suffix in Path(path).suffixes)]
    return before[-1] if last in COMPRESSED and before[-1] in (".csv", ".tsv", ".txt") else last


def _check(source: Source, chunk: Chunk, drop: bool) -> None:
    """Every number is finite, and its square is, but for missing ones that are dropped."""
    unfit = ~(np.abs(chunk.values) <= _LARGEST)
    if drop:
        unfit &= ~np.isnan(chunk.values)
    if not np.any(unfit):
        return
    i, t, f = (int(n) for n in np.argwhere(unfit)[0])
    where = source.place(chunk.sequence + i, chunk.step + t, f)
    value = float(chunk.values[i, t, f])
    found, allowed, hint = f"{value:g}", "finite numbers", ""
    if np.isnan(value):
        found = "no number (nan)"
        hint = 'missing="drop" (--missing drop) leaves such steps out'
        empty = np.flatnonzero(np.isnan(chunk.values).all(axis=(0, 1)))
        if 0 < len(empty) < source.features and chunk.values[..., 0].size > 1:
            label = _label(source, int(empty[0]))
            hint += f"; column {label} holds no number so far: leave it out: {leave_out([label])}"
        if source.steps is not None:
            hint += "; sequences of unequal lengths: pad with a constant such as 0, or pass a list of arrays"
    elif np.isfinite(value):
        allowed = f"numbers up to {_LARGEST:g}"
        hint = "standardize the data"
    elif source.features > 1:
        hint = f"correct the data, or leave the column out: {leave_out([_label(source, f)])}"
    raise DataError(where, found=found, allowed=allowed, hint=hint, source=source.name)


def _check_size(source: Source, largest: float) -> None:
    """The largest number is 0, or has a square."""
    if not 0.0 < largest < _SMALLEST:
        return
    hint = f"multiply the data by a number such as {10.0 ** min(-math.floor(math.log10(largest)), 300):.0e}"
    found = f"numbers of at most {largest:.3g}, whose squares are too small to compute with"
    allowed = f"zeros, or numbers up to at least {_SMALLEST:g}"
    raise DataError(found=found, allowed=allowed, hint=f"{hint}, or standardize them", source=source.name)


def _nothing(source: Source, lacking: NDArray[np.int64], steps: int) -> DataError:
    """The error for data in which no step is whole."""
    empty = np.flatnonzero(lacking == steps) if steps else np.zeros(0, dtype=np.int64)
    if 0 < len(empty) < source.features:
        label = _label(source, int(empty[0]))
        hint = f"leave it out: {leave_out([label])}"
        return DataError(f"column {label}", found="no number in any row", hint=hint, source=source.name)
    return DataError(found="no numbers", allowed="at least one step of a sequence", source=source.name)


def _label(source: Source, f: int) -> str:
    """What a column is called."""
    return str(f) if source.names is None else source.names[f]


def _ids(source: Source, ids: str) -> DataError:
    """The error for ids of tokens."""
    way = (
        "an embedding gives what the network reads: measure that with critinit.measure(model, batch), or state its "
        'power, and the data give the length alone: tokens="length" (--input-variance R); if they are amounts, '
        "standardize them"
    )
    if source.features > 1:
        way += "; where a row is a sequence: layout='NT' (--layout NT)"
    allowed = "the numbers that the network reads"
    return DataError(found=f"{ids}, which look like ids of tokens", allowed=allowed, hint=way, source=source.name)


def _complete(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """The steps that lack no number; those after a step that does move up."""
    step = 0
    for chunk in chunks:
        lacks: NDArray[np.bool_] = np.any(np.isnan(chunk.values), axis=2)
        if chunk.step == 0 and not np.any(lacks):
            step = chunk.values.shape[1]
            yield chunk
            continue
        for i, values in enumerate(chunk.values):
            complete = values[~lacks[i]]
            step = step if chunk.step else 0
            if len(complete):
                yield Chunk(complete[None], chunk.sequence + i, step)
            step += len(complete)
