"""Where a gate's part lies in a tensor.

A tensor is cut into *blocks*, each holding one gate's part,

    stored[index] = sign · (canonical, transposed where so) + offset

with the canonical forms of ``critinit.tensors.sampling``: recurrent (H, F), input (H, I), bias (H,), projection (P, H),
gains (H,).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from critinit.errors import ArgumentError
from critinit.tensors.sampling import Draw, Part

__all__ = ["Block", "Index", "Shape", "fill", "fused", "second_bias", "whole_tensor", "zeros"]

Index = tuple[slice | int, ...]
Shape = tuple[int, ...]
_NONE: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Block:
    """One gate's part in a tensor, or a region to be zeroed (part "zero").

    ``index``: the region, () for the whole tensor; a number drops its axis.  ``transposed``: stored as
    (fan_in, H).  ``shape``: the shape that the region's numbers are read in, row by row, where it is not the region's
    own, which ``stored_as`` then is: one axis, or that of a convolution's kernel.  A zeroed region that names a gate is
    a second bias vector, added to that gate's effective bias; one that names none has no part in what a spec describes.
    ``inside``: the gate inside whose r∘(·) such a region acts; an optimizer's step on it counts as one on that gate's
    bias.
    """

    gate: str
    part: Part | Literal["zero"]
    index: Index = ()
    transposed: bool = False
    sign: float = 1.0
    offset: float = 0.0
    shape: Shape | None = None
    stored_as: Shape = (-1,)
    inside: str = ""

    def stored(self, canonical: Any) -> Any:
        """Return what stands in the tensor for ``canonical``, an array of NumPy or of a framework."""
        values = self.sign * (canonical.T if self.transposed else canonical) + self.offset
        return values if self.shape is None else values.reshape(self.stored_as)

    def canonical(self, stored: Any) -> Any:
        """Return the canonical numbers of what stands in the tensor, the inverse of ``stored``."""
        values = stored if self.shape is None else stored.reshape(self.shape)
        return self.sign * ((values.T if self.transposed else values) - self.offset)

    def part_of(self, tensor: Shape, place: Sequence[slice]) -> Block:
        """Return the block that holds a part of these canonical numbers, in a tensor of a shape.

        Args:
            tensor: The tensor's shape.
            place: Begin and end along the canonical axes, from the first on: the units, then what they read (of a
                convolution's kernel the channels).

        Raises:
            ArgumentError: The block is read from a single axis, where no region holds such a part.
        """
        spans: list[int | range] = [
            range(size)[step] for size, step in zip(tensor, (*self.index, *[slice(None)] * len(tensor)), strict=False)
        ]
        free = [axis for axis, span in enumerate(spans) if isinstance(span, range)]
        if self.shape is not None and len(self.stored_as) == 1:
            hint = "store the kernel as a matrix, or use a spec of one group"
            raise ArgumentError(
                "groups", found="a kernel in a row of numbers, of which groups of units have parts", hint=hint
            )
        axes = free[::-1] if self.transposed else free
        for axis, part in zip(axes, place, strict=False):
            span = spans[axis]
            assert isinstance(span, range)
            spans[axis] = span[part]
        index = tuple(span if isinstance(span, int) else slice(span.start, span.stop) for span in spans)
        if self.shape is None:
            return replace(self, index=index)
        stored = tuple(len(span) for span in spans if isinstance(span, range))
        return replace(self, index=index, shape=(prod(stored[:-1]), stored[-1]), stored_as=stored)

    def region(self, tensor: Shape) -> Shape:
        """Return the shape of the region in a tensor of a shape."""
        return np.broadcast_to(np.empty(()), tensor)[self.index].shape

    def holds(self, tensor: Shape) -> Shape:
        """Return the shape of the canonical numbers that a tensor of a shape holds here."""
        shape = self.region(tensor) if self.shape is None else self.shape
        return shape[::-1] if self.transposed else shape


def fused(
    gates: Sequence[str],
    part: Part | Literal["zero"],
    axis: int,
    width: int,
    *,
    transposed: bool = False,
    sign: Mapping[str, float] = _NONE,
    offset: Mapping[str, float] = _NONE,
    within: Mapping[int, slice | int] = MappingProxyType({}),
) -> tuple[Block, ...]:
    """Return the blocks of a fused tensor: ``gates`` side by side along ``axis``, each ``width`` wide.

    ``within`` restricts other axes (rows [x; h] of one matrix: ``{0: slice(0, I)}``; first row of two:
    ``{0: 0}``).
    """

    def index(n: int) -> Index:
        along: dict[int, slice | int] = {**within, axis: slice(n * width, (n + 1) * width)}
        return tuple(along.get(k, slice(None)) for k in range(max(along) + 1))

    return tuple(
        Block(gate, part, index(n), transposed, sign.get(gate, 1.0), offset.get(gate, 0.0))
        for n, gate in enumerate(gates)
    )


def whole_tensor(
    gate: str, part: Part, *, transposed: bool = False, sign: float = 1.0, offset: float = 0.0
) -> tuple[Block, ...]:
    """Return the one block of a tensor that a single gate's part fills."""
    return (Block(gate, part, (), transposed, sign, offset),)


def zeros(*index: slice | int, inside: str = "") -> tuple[Block, ...]:
    """Return a region that is set to 0 and is no part of what a spec describes; the whole tensor by default.

    ``inside``: the gate inside whose r∘(·) it acts, if it is one.
    """
    return (Block("", "zero", index, inside=inside),)


def second_bias(
    gates: Sequence[str],
    axis: int,
    width: int,
    *,
    inside: str | None = None,
    within: Mapping[int, slice | int] = MappingProxyType({}),
) -> tuple[Block, ...]:
    """Return the blocks of a second bias vector, set to 0: it adds to the first, but for the gate ``inside`` r∘(·)."""
    blocks = fused(gates, "zero", axis, width, within=within)
    return tuple(replace(block, gate="", inside=block.gate) if block.gate == inside else block for block in blocks)


def fill(
    shape: Shape, pairs: Sequence[tuple[Block, Draw | None]], present: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return a whole tensor in float64: portable draws in their blocks, 0 in those without a draw.

    Args:
        shape: The tensor's shape.
        pairs: Its blocks, with what is drawn for each.
        present: What stands outside of the blocks; 0 unless given.
    """
    values = np.zeros(shape) if present is None else present.copy()
    for block, draw in pairs:
        values[block.index] = 0.0 if draw is None else block.stored(draw.sample())
    return values
