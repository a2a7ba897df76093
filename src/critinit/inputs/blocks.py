"""Data as a stream of blocks, each a box of (sequences, steps, features), in the order in which they are stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from critinit.dual import Array
from critinit.errors import ArgumentError

__all__ = ["AXES", "Block", "Source", "axes_of", "boxes", "in_order"]

AXES = {"N": "sequence", "T": "step", "F": "feature"}
"""The letters of a layout."""

_DEFAULT = {1: "T", 2: "TF", 3: "NTF"}


@dataclass(frozen=True)
class Block:
    """``values`` (n, t, f) from ``sequence``, ``step`` and ``feature`` on; ``last``: the sequences' time ends here."""

    values: Array
    sequence: int
    step: int
    feature: int
    last: bool


@dataclass(frozen=True)
class Source:
    """Where blocks come from.

    ``layout``: the axes as they are stored, slowest first.  ``sequences`` and ``steps`` are None where only the end of
    the file tells; the steps of several sequences are always known.  ``names`` of the features, where they have any.
    ``blocks(limit)``: the data in boxes of at most ``limit`` numbers (but a whole table row), every one once.
    ``place(i, t, f)``: where a number stands, in words.
    """

    name: str
    layout: str
    sequences: int | None
    steps: int | None
    features: int
    names: tuple[str, ...] | None
    blocks: Callable[[int], Iterator[Block]]
    place: Callable[[int, int, int], str]


def axes_of(layout: str | None, dimensions: int) -> str:
    """The layout of data of so many dimensions: T, TF and NTF unless it is said.

    Raises ``ArgumentError`` where the layout is none, or one for another number of dimensions.
    """
    if layout is None:
        if dimensions not in _DEFAULT:
            raise ArgumentError(f"layout: found data of {dimensions} dimensions; allowed: 1 to 3")
        return _DEFAULT[dimensions]
    axes = layout.upper()
    if "T" not in axes or set(axes) - set(AXES) or len(set(axes)) != len(axes):
        raise ArgumentError(
            f"layout: found {layout!r}; allowed: the axes as they are stored, N (sequences), T (steps) and "
            f"F (features), such as NTF; N and F may be left out"
        )
    if len(axes) != dimensions:
        raise ArgumentError(
            f"layout: found {layout!r} for data of {dimensions} dimension{'s' * (dimensions != 1)}; "
            f"allowed: {dimensions} letter{'s' * (dimensions != 1)}"
        )
    return axes


def boxes(shape: tuple[int, ...], limit: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Start and size of boxes of at most ``limit`` numbers that tile ``shape`` in C order, each contiguous in it."""
    if math.prod(shape) <= limit or not shape:
        yield (0,) * len(shape), shape
        return
    inner = math.prod(shape[1:])
    if inner <= limit:
        rows = limit // inner
        for start in range(0, shape[0], rows):
            yield (start, *(0,) * (len(shape) - 1)), (min(rows, shape[0] - start), *shape[1:])
        return
    for index in range(shape[0]):
        for inner_start, size in boxes(shape[1:], limit):
            yield (index, *inner_start), (1, *size)


def in_order(
    numbers: Iterable[tuple[tuple[int, ...], np.ndarray]], shape: tuple[int, ...], axes: str
) -> Iterator[Block]:
    """The blocks of boxes of an array of ``shape``, whose axes are ``axes``."""
    present = [axes.index(letter) for letter in AXES if letter in axes]
    missing = [n for n, letter in enumerate(AXES) if letter not in axes]
    time = axes.index("T")
    for start, box in numbers:
        offsets = dict(zip(axes, start, strict=True))
        values = np.expand_dims(np.transpose(box, present), missing)
        last = start[time] + box.shape[time] == shape[time]
        n, t, f = (offsets.get(letter, 0) for letter in AXES)
        yield Block(np.ascontiguousarray(values, dtype=np.float64), n, t, f, last)
