"""From a file, an array or a list of arrays to the statistics of the inputs in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from critinit.errors import ArgumentError, DataError
from critinit.files import refusal
from critinit.inputs import arrays
from critinit.inputs.chunks import Chunk, Source
from critinit.inputs.moments import Moments
from critinit.inputs.statistics import InputStatistics

__all__ = ["CHUNK", "FORMATS", "MISSING", "measure"]

CHUNK = 2**18
"""Numbers read at once: 2 MB, and a few times as much for what is computed of them."""
FORMATS = (".npy", ".npz", ".csv", ".tsv", ".txt", ".parquet", ".pq", ".feather", ".arrow")
"""Endings of the files that can be measured; after the first two they are tables."""
MISSING = ("refuse", "drop")
"""What may be done about missing numbers."""

_LARGEST = 1e50
"""Size of a number; its square is the largest number that a spec can state."""


def measure(
    data: Any,
    *,
    layout: str | None = None,
    array: str | None = None,
    columns: Sequence[str] | None = None,
    missing: Literal["refuse", "drop"] = "refuse",
    chunk_size: int = CHUNK,
    progress: Callable[[int], None] | None = None,
) -> InputStatistics:
    """Return the statistics of the inputs in a file, an array or a list of arrays, in one pass over them.

    Args:
        data: An array; a list of arrays of shape (T,) or (T, F), one for each sequence, whose lengths may differ; or a
            file: .npy, .npz or a table (.csv, .tsv, .txt, .parquet, .pq, .feather, .arrow), which needs pyarrow.
        layout: The axes as they are stored, N sequences, T steps, F features; without it T, TF or NTF.  The rows of a
            table are steps and its columns features (TF), or its rows are sequences (NT).
        array: Which array of an npz file that holds several.
        columns: The columns of a table to measure, by name; by number from 0 where they have no names.
        missing: What to do with steps that lack a number (NaN, or an empty cell of a table).  "refuse" raises a
            DataError that says where the first is; "drop" leaves them out, and the steps after them move up.
        chunk_size: How many numbers to read at once.
        progress: Called with how many numbers have been read so far.

    Raises:
        FileError: The file cannot be read.
        DataError: It does not hold finite numbers in such a shape; the error says where, and the way out.
        ArgumentError: An argument does not fit the data.
        MissingExtraError: A table without pyarrow.

    Example:
        >>> import numpy as np
        >>> found = measure([np.array([1.0, -1.0, 1.0]), np.array([1.0, -1.0])])
        >>> found.shape, found.input_variance, found.input_correlation, found.padding
        ((2, 3, 1), 1.0, 1.0, None)
    """
    if missing not in MISSING:
        raise ArgumentError("missing", found=repr(missing), allowed=" or ".join(map(repr, MISSING)))
    drop, read = missing == "drop", 0
    source = _source(data, layout, array, columns, apart=drop)

    def chunks() -> Iterator[Chunk]:
        nonlocal read
        for chunk in source.chunks(chunk_size):
            _check(source, chunk, drop)
            yield chunk
            read += chunk.values.size
            if progress:
                progress(read)

    moments = Moments(source)
    for chunk in _complete(chunks()) if drop else chunks():
        moments.add(chunk)
    if moments.count == 0:
        raise DataError(found="no numbers", allowed="at least one step of a sequence", source=source.name)
    steps = read // source.features
    dropped = steps - moments.count
    return moments.finish((f"{dropped:,} of {steps:,} steps lack a number and were left out",) if dropped else ())


def _source(data: Any, layout: str | None, array: str | None, columns: Sequence[str] | None, *, apart: bool) -> Source:
    """The data as a source; ``apart``: one sequence after the other."""
    is_path = isinstance(data, (str, os.PathLike))
    ending = Path(data).suffix.lower() if is_path else ""
    if is_path and ending not in FORMATS:
        found = f"a file name that ends in {ending!r}" if ending else "a file name without ending"
        raise ArgumentError("data", found=found, allowed=", ".join(FORMATS))
    if array is not None and ending != ".npz":
        raise ArgumentError("array", found=repr(array), allowed="with an npz file, which holds several")
    if columns is not None and ending not in FORMATS[2:]:
        raise ArgumentError("columns", allowed="with a table (such as csv or parquet), whose columns have names")
    if not is_path:
        return arrays.in_memory(data, layout, apart=apart)
    name = os.fspath(data)
    try:
        with open(name, "rb"):
            pass
    except (OSError, ValueError) as error:
        raise refusal(name, error, "a file that can be read") from None
    if ending == ".npy":
        return arrays.npy(name, layout, apart=apart)
    if ending == ".npz":
        return arrays.npz(name, layout, array, apart=apart)
    from critinit.inputs import tables

    return tables.table(name, layout, columns)


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
        hint = 'missing="drop" (--missing drop) leaves such rows out'
        if source.steps is not None:
            hint += "; sequences of unequal lengths: pad with a constant such as 0, or pass a list of arrays"
    elif np.isfinite(value):
        allowed = f"numbers up to {_LARGEST:g}"
    raise DataError(where, found=found, allowed=allowed, hint=hint, source=source.name)


def _complete(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """The steps that lack no number, sequence by sequence; those after a step that does move up."""
    step = 0
    for chunk in chunks:
        for i, values in enumerate(chunk.values):
            complete = values[~np.isnan(values).any(axis=1)]
            step = step if chunk.step else 0
            if len(complete):
                yield Chunk(complete[None], chunk.sequence + i, step)
            step += len(complete)
