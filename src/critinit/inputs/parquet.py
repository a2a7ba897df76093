"""Parquet tables, batch by batch; pyarrow reads them and is imported only here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from critinit.inputs.blocks import Block, Source
from critinit.inputs.tables import choose, table_blocks, table_source
from critinit.dual import Array
from critinit.errors import DataError, MissingExtraError

__all__ = ["table"]


def table(path: str | os.PathLike[str], layout: str | None, columns: Sequence[str] | None) -> Source:
    """A parquet file as a source."""
    try:
        import pyarrow as pa
        from pyarrow import parquet, types
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet") from None

    name = os.fspath(path)
    with open(path, "rb"):  # what cannot be opened is said in the words of other files
        pass
    try:
        schema = parquet.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        why = str(error).partition("\n")[0]
        raise DataError(f"{name}: found no parquet file ({why}); allowed: a whole one") from None
    names = tuple(schema.names)
    index = choose(name, names, len(names), columns)
    for i in index:
        kind = schema.field(i).type
        if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
            raise DataError(
                f"{name}: column {names[i]}: found {kind}; allowed: numbers; choose the others with columns"
            )
    if not index:
        raise DataError(f"{name}: found no column; allowed: at least one")

    def rows(limit: int) -> Iterator[Array]:
        at = 0
        with parquet.ParquetFile(path) as file:
            batches = file.iter_batches(
                batch_size=max(1, limit // len(index)), columns=[names[i] for i in index], use_threads=False
            )
            try:
                for batch in batches:
                    if batch.num_rows:
                        yield _numbers(name, batch, at)
                        at += batch.num_rows
            except pa.ArrowException as error:
                why = str(error).partition("\n")[0]
                raise DataError(f"{name}: found a damaged file ({why}); allowed: a whole one") from None

    def blocks(limit: int) -> Iterator[Block]:
        return table_blocks(rows(limit), layout)

    return table_source(name, names, index, layout, blocks)


def _numbers(name: str, batch: Any, at: int) -> Array:
    """A batch as rows of numbers; ``at`` is its first row."""
    columns = []
    for label, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.null_count:
            row = at + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise DataError(f"{name}: row {row}, column {label}: found no value; allowed: finite numbers")
        columns.append(column.to_numpy(zero_copy_only=False).astype(np.float64))
    return np.stack(columns, axis=1)
