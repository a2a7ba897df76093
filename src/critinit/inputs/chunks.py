"""Data as a stream of chunks, and the letters that name the axes of data."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from critinit.dual import Array
from critinit.errors import ArgumentError

__all__ = ["AXES", "Chunk", "Source", "axes_of", "chosen", "leave_out", "ragged"]

AXES = {"N": "sequence", "T": "step", "F": "feature"}
"""The letters of a layout, in the order in which a chunk has them."""


class Chunk(NamedTuple):
    """Numbers of shape (sequences, steps, features), and the numbers of their first sequence and step, from 0."""

    values: Array
    sequence: int
    step: int


class Source(NamedTuple):
    """Data that can be read once.

    Attributes:
        name: The file, or what else the data are called in messages.
        steps: Steps of the longest of several sequences; None where there is one sequence.
        features: How many numbers a step has.
        names: Names of the features; None where they have none.
        chunks: Gives the chunks, each of about so many numbers.  A chunk at step 0 starts new sequences; the next ones
            continue the same sequences, until the next chunk at step 0.
        place: Says in words where the number (sequence, step, feature) stands.
        may_be_ids: Whether the numbers may be ids of tokens: not where the data themselves say what is a feature
            (columns with names, an axis of their own), and not bytes, which are images and sound.
        notes: What is to be said of the data that the numbers do not show.
    """

    name: str
    steps: int | None
    features: int
    names: tuple[str, ...] | None
    chunks: Callable[[int], Iterator[Chunk]]
    place: Callable[[int, int, int], str]
    may_be_ids: bool = False
    notes: tuple[str, ...] = ()


def axes_of(layout: str | None, dimensions: int) -> str:
    """Return the layout of data with so many dimensions in capitals: T, TF or NTF unless one is given.

    Raises:
        ArgumentError: The layout is not one, or is one for another number of dimensions.
    """
    axes = {1: "T", 2: "TF", 3: "NTF"}[dimensions] if layout is None else layout.upper()
    if "T" not in axes or set(axes) - set(AXES) or len(set(axes)) != len(axes):
        allowed = "the axes as they are stored, such as NTF: T (steps), and perhaps N (sequences) and F (features)"
        raise ArgumentError("layout", found=repr(layout), allowed=allowed)
    if len(axes) != dimensions:
        plural, example = "s" * (dimensions != 1), axes_of(None, dimensions)
        found, allowed = (
            f"{layout!r} for data of {dimensions} dimension{plural}",
            f"{dimensions} letter{plural}, such as {example}",
        )
        raise ArgumentError("layout", found=found, allowed=allowed)
    return axes


def chosen(name: str, labels: Sequence[str], columns: Sequence[str] | None) -> list[int]:
    """Return where the columns stand that are to be measured.

    Args:
        name: The data, for messages.
        labels: The names of all columns.
        columns: Names of those to measure, or names that each begin with "-", of those to leave out.  A column whose
            own name begins so is meant by that name.  None: all columns.

    Raises:
        ArgumentError: There is no such column, or columns are both named and left out.

    Example:
        >>> chosen("x.csv", ["day", "speed", "angle"], ["-day"])
        [1, 2]
    """
    if columns is None:
        return list(range(len(labels)))
    wanted, unwanted = [], []
    for column in dict.fromkeys(map(str, columns)):
        if column in labels:
            wanted.append(position(name, labels, column, "columns"))
        elif column[:1] == "-" and column[1:] in labels:
            unwanted.append(column[1:])
        else:
            listed = ", ".join(labels[:20]) + (", …" if len(labels) > 20 else "")
            raise ArgumentError("columns", found=repr(column), allowed=f"in {name}: {listed}")
    if wanted and unwanted:
        found = f"{labels[wanted[0]]!r} to measure and {'-' + unwanted[0]!r} to leave out"
        raise ArgumentError("columns", found=found, allowed="one or the other", hint="what is not named is left out")
    return [n for n, label in enumerate(labels) if label not in unwanted] if unwanted else wanted


def position(name: str, labels: Sequence[str], label: str, argument: str) -> int:
    """Return where the column of a name stands, which is the only one of that name.

    Raises:
        ArgumentError: Several columns have the name.
    """
    if labels.count(label) > 1:
        found = f"{label!r}, the name of {labels.count(label)} columns"
        hint = "give the columns names of their own: csv={'skip_rows': 1, 'column_names': [...]} (--csv)"
        raise ArgumentError(argument, found=found, allowed=f"a name that one column of {name} has", hint=hint)
    return labels.index(label)


def leave_out(labels: Sequence[str]) -> str:
    """Return how columns are left out, in Python and on the command line.

    Example:
        >>> print(leave_out(["day", "city"]))
        columns=['-day', '-city'] (--columns -day,-city)
    """
    names, line = [f"-{label}" for label in dict.fromkeys(labels)], io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    option = line.getvalue() if re.fullmatch(r"[\w.,+-]+", line.getvalue()) else f"'{line.getvalue()}'"
    return f"columns={names!r} (--columns {option})"


def ragged(
    lengths: NDArray[np.int64], features: int, read: Callable[[NDArray[np.int64], int, int], Array]
) -> tuple[NDArray[np.int64], Callable[[int], Iterator[Chunk]]]:
    """Return sequences of unequal lengths in an order in which those of one length follow each other, and their chunks.

    Args:
        lengths: The number of steps of each, at least 1.
        features: How many numbers a step has.
        read: (sequences of one length, first step, step after the last) -> their numbers, (sequences, steps, features).

    Returns:
        The numbers of the sequences in the order in which the chunks have them, and the chunks, as ``Source`` has
        them.
    """
    order = np.argsort(lengths, kind="stable")
    starts = np.flatnonzero(np.diff(lengths[order], prepend=-1))

    def chunks(limit: int) -> Iterator[Chunk]:
        for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
            length = int(lengths[order[start]])
            together = max(1, limit // (length * features))
            steps = length if together > 1 else max(1, limit // features)
            for i in range(start, end, together):
                for t in range(0, length, steps):
                    yield Chunk(read(order[i : min(i + together, end)], t, min(t + steps, length)), i, t)

    return order, chunks
