"""From a file, or an array, to the statistics of the inputs in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from critinit.inputs.blocks import Block, Source
from critinit.inputs.moments import Moments
from critinit.inputs.statistics import InputStatistics
from critinit.errors import ArgumentError, DataError, FileError

__all__ = ["BLOCK", "FORMATS", "measure"]

BLOCK = 2**18
"""Numbers read at once: 2 MB, and a few times as much for what is computed of them."""

FORMATS = (".npy", ".npz", ".csv", ".tsv", ".txt", ".parquet", ".pq")

_MOST_FEATURES = 2**20
_LARGEST = 1e50  # its square is the largest number that a spec can state


def measure(
    data: Any,
    *,
    layout: str | None = None,
    array: str | None = None,
    columns: Sequence[str] | None = None,
    block: int = BLOCK,
    progress: Callable[[int], None] | None = None,
) -> InputStatistics:
    """The statistics of the inputs in a file or an array; one pass, ``block`` numbers at a time.

    ``data``: an array, or the path of a file: .npy, .npz, .csv (.tsv, .txt), .parquet (.pq; needs pyarrow).
    ``layout``: the axes as they are stored, N sequences, T steps, F features; unless said (T,), (T, F) or (N, T, F).
    A table's rows are steps and its columns features (TF), or, with layout NT, a row is a sequence.
    ``array``: which one of an npz that holds several.  ``columns`` of a table, by name, or by number from 0 where they
    have no names.  ``progress`` is called with how many numbers have been read.

    Raises ``FileError`` where the file cannot be read, ``DataError`` where it does not hold finite numbers in such a
    shape, ``ArgumentError`` for an argument that does not fit, ``MissingExtraError`` for parquet without pyarrow.
    """
    source = _source(data, layout, array, columns)
    if source.features > _MOST_FEATURES:
        raise DataError(f"{source.name}: found {source.features:,} features; allowed: at most {_MOST_FEATURES:,}")
    moments, done = None, 0
    try:
        for part in source.blocks(block):
            _check(source, part)
            moments = moments or Moments(source)
            moments.add(part)
            done += part.values.size
            if progress:
                progress(done)
    except OSError as error:
        raise _refusal(source.name, error) from None
    if moments is None:
        raise DataError(f"{source.name}: found no numbers; allowed: at least one step of a sequence")
    return moments.finish()


def _source(data: Any, layout: str | None, array: str | None, columns: Sequence[str] | None) -> Source:
    from critinit.inputs import arrays, delimited, parquet

    is_path = isinstance(data, (str, os.PathLike))
    ending = Path(data).suffix.lower() if is_path else ""
    if is_path and ending not in FORMATS:
        found = f"a file name that ends in {ending!r}" if ending else "a file name without ending"
        raise ArgumentError(f"data: found {found}; allowed: {', '.join(FORMATS)}")
    if array is not None and ending != ".npz":
        raise ArgumentError(f"array: found {array!r}; allowed: with an npz file, which holds several")
    if columns is not None and ending not in (".csv", ".tsv", ".txt", ".parquet", ".pq"):
        raise ArgumentError("columns: allowed: with a table (csv or parquet), whose columns have names")
    try:
        if not is_path:
            return arrays.in_memory(np.asarray(data), layout)
        if ending == ".npy":
            return arrays.npy(data, layout)
        if ending == ".npz":
            return arrays.npz(data, layout, array)
        if ending in (".parquet", ".pq"):
            return parquet.table(data, layout, columns)
        return delimited.table(data, layout, columns)
    except (OSError, ValueError) as error:
        raise _refusal(os.fspath(data) if is_path else "the array", error) from None


def _check(source: Source, block: Block) -> None:
    """Every number is finite, and its square is."""
    fits = np.abs(block.values) <= _LARGEST
    if np.all(fits):
        return
    i, t, f = (int(n) for n in np.argwhere(~fits)[0])
    where = source.place(block.sequence + i, block.step + t, block.feature + f)
    found = float(block.values[i, t, f])
    allowed = "finite numbers" if not np.isfinite(found) else f"numbers up to {_LARGEST:g}"
    raise DataError(f"{source.name}: {where}: found {found:g}; allowed: {allowed}")


def _refusal(name: str, error: Exception) -> FileError:
    from critinit.files import refusal

    return refusal(name, error, "a file that can be read")
