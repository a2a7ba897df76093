"""What tables of text and of parquet share: columns chosen by name, rows as steps or as sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from critinit.inputs.blocks import Block, Source, axes_of
from critinit.dual import Array
from critinit.errors import ArgumentError

__all__ = ["choose", "table_blocks", "table_source"]


def choose(name: str, names: tuple[str, ...] | None, width: int, columns: Sequence[str] | None) -> tuple[int, ...]:
    """The index of every chosen column; all where none is named.  Raises ``ArgumentError`` for an unknown one."""
    if columns is None:
        return tuple(range(width))
    known = names if names is not None else tuple(str(n) for n in range(width))
    for column in columns:
        if column not in known:
            listed = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
            raise ArgumentError(f"columns: found {column!r}; allowed in {name}: {listed}")
    return tuple(known.index(column) for column in columns)


def _rows_are_sequences(layout: str | None) -> bool:
    axes = axes_of(layout, 2)
    if axes not in ("TF", "NT"):
        raise ArgumentError(
            f"layout: found {layout!r} for a table; allowed: TF (a row is a step, a column a feature) "
            f"or NT (a row is a sequence, a column a step)"
        )
    return axes == "NT"


def table_blocks(rows: Iterator[Array], layout: str | None) -> Iterator[Block]:
    """The blocks of successive rows, each (rows, columns)."""
    across, at = _rows_are_sequences(layout), 0
    for part in rows:
        if across:
            yield Block(part[:, :, None], at, 0, 0, True)
        else:
            yield Block(part[None], 0, at, 0, False)
        at += len(part)


def table_source(
    name: str,
    names: tuple[str, ...] | None,
    index: tuple[int, ...],
    layout: str | None,
    blocks: Callable[[int], Iterator[Block]],
) -> Source:
    """A table as a source."""
    across = _rows_are_sequences(layout)
    labels = tuple(names[i] if names else str(i) for i in index)

    def place(i: int, t: int, f: int) -> str:
        row, column = (i, t) if across else (t, f)
        return f"row {row}, column {labels[column]}"

    if across:
        return Source(name, "NT", None, len(index), 1, None, blocks, place)
    return Source(name, "TF", 1, None, len(index), labels, blocks, place)
