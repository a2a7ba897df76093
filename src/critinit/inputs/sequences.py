"""Data as sequences: what is read of a file where a network is to run on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from critinit.dual import Array
from critinit.errors import DataError
from critinit.inputs.chunks import Source
from critinit.inputs.measure import CHUNK, source_of

__all__ = ["read_sequences"]


def read_sequences(
    data: Any,
    *,
    layout: str | None = None,
    array: str | None = None,
    columns: Sequence[str] | None = None,
    group: Sequence[str] = (),
    time: str | None = None,
    csv: Mapping[str, Any] | None = None,
    missing: Literal["refuse"] = "refuse",
    most: int = 64,
) -> list[Array]:
    """Return the first sequences of a file, an array or a list of arrays, (steps, features) each.

    Args:
        data: The data, as ``critinit.inputs.measure`` takes them, like all the following.
        layout: The axes as they are stored.
        array: Which array of a file that holds several.
        columns: The columns that are inputs, or those that are none.
        group: The columns that name a row's sequence.
        time: The column by which rows are ordered.
        csv: How text is written.
        missing: "refuse": a network cannot read a step that lacks a number.
        most: How many sequences are read.

    Raises:
        ArgumentError: An argument does not suit the data.
        DataError: The data hold no sequence, or a number that is not finite.
        FileError: The file cannot be read.

    Example:
        >>> [x.shape for x in read_sequences(np.zeros((3, 5, 2)), most=2)]
        [(5, 2), (5, 2)]
    """
    source = source_of(data, layout, array, columns, tuple(group), time, csv, False, lambda _: None)
    found = [np.concatenate(parts) for parts in _first(source, most)]
    if not found:
        raise DataError(found="no numbers", allowed="at least one step of a sequence", source=source.name)
    for i, values in enumerate(found):
        if not np.all(np.isfinite(values)):
            t, f = (int(n) for n in np.argwhere(~np.isfinite(values))[0])
            raise DataError(
                source.place(i, t, f), found=f"{values[t, f]:g}", allowed="finite numbers", source=source.name
            )
    return found


def _first(source: Source, most: int) -> Iterator[list[Array]]:
    """The parts of each of the first sequences."""
    together: list[list[Array]] = []
    given = 0
    for chunk in source.chunks(CHUNK):
        if chunk.step == 0:
            yield from together
            given += len(together)
            if given >= most:
                return
            together = [[] for _ in chunk.values[: most - given]]
        for parts, values in zip(together, chunk.values, strict=False):
            parts.append(np.array(values, dtype=np.float64))
    yield from together
