"""Data as a stream of chunks, and the letters that name the axes of data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from critinit.dual import Array
from critinit.errors import ArgumentError

__all__ = ["AXES", "Chunk", "Source", "axes_of"]

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
    """

    name: str
    steps: int | None
    features: int
    names: tuple[str, ...] | None
    chunks: Callable[[int], Iterator[Chunk]]
    place: Callable[[int, int, int], str]


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
        plural = "s" * (dimensions != 1)
        found, allowed = f"{layout!r} for data of {dimensions} dimension{plural}", f"{dimensions} letter{plural}"
        raise ArgumentError("layout", found=found, allowed=allowed)
    return axes
