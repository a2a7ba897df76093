"""For layers that are declared with a spec: the numbers of one tensor, before there is a model to survey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from critinit.cells import find_cell
from critinit.errors import ApplyError, ArgumentError
from critinit.spec import InitSpec, checked_spec
from critinit.tensors.blocks import Block, fill
from critinit.tensors.sampling import check_seed, draws_of

__all__ = ["Place", "check_cell", "values"]


@dataclass(frozen=True, slots=True)
class Place:
    """Which part of a spec's draws an initializer takes, as ``critinit.tensors.sampling.Stream`` counts them.

    Attributes:
        spec: The spec.
        layer: The spec's layer.
        direction: 0 for forward, 1 for backward.
        seed: The seed.
        module: The number of the module in the model, where several take the whole spec.

    Raises:
        ArgumentError: The spec has no such layer, the direction is not 0 or 1, or the seed is out of range.
    """

    spec: InitSpec
    layer: int = 0
    direction: int = 0
    seed: int = 0
    module: int = 0

    def __post_init__(self) -> None:
        checked_spec(self.spec)
        for name, found, end in (("layer", self.layer, len(self.spec.layers)), ("direction", self.direction, 2)):
            if not 0 <= found < end:
                raise ArgumentError(name, found=repr(found), allowed=f"0 to {end - 1}")
        check_seed(self.seed)


def check_cell(spec: InitSpec, cells: Sequence[str]) -> None:
    """Raise ``ArgumentError`` unless the spec is for one of the cells that layers can be declared with."""
    if spec.cell not in cells:
        alike = [cell for cell in cells if find_cell(cell).gates == spec.find_cell().gates]
        hint = f"write the spec with --cell {' or '.join(alike)}" if alike else ""
        raise ArgumentError("spec", found=f"cell {spec.cell}", allowed=", ".join(cells), hint=hint)


def values(
    place: Place, name: str, shape: Sequence[int], blocks: Sequence[Block], input_size: int, hidden_size: int
) -> NDArray[np.float64]:
    """Return the tensor in float64: exactly what ``critinit.apply`` writes, portably, into a model of one module.

    Args:
        place: Which of the spec's draws it takes.
        name: The tensor's name, for errors.
        shape: The tensor's shape.
        blocks: The blocks of the tensor.
        input_size: The width of the input; it counts only where ``blocks`` hold input kernels.
        hidden_size: The number of units.

    Raises:
        ApplyError: The blocks do not fit the shape.
        ArgumentError: The spec's distribution cannot have that shape.
    """
    draws = draws_of(
        place.spec,
        place.layer,
        seed=place.seed,
        input_size=input_size,
        hidden_size=hidden_size,
        direction=place.direction,
        module=place.module,
    )
    pairs = tuple((block, None if block.part == "zero" else draws[block.gate, block.part]) for block in blocks)
    blank = np.broadcast_to(np.empty(()), tuple(shape))
    found = [blank[block.index].shape for block, draw in pairs if draw is not None]
    filled = sum(blank[block.index].size for block in blocks)
    wanted = [draw.shape[::-1] if block.transposed else draw.shape for block, draw in pairs if draw is not None]
    if wanted != found or filled != blank.size:
        allowed = f"that of a {place.spec.cell} of {hidden_size} units"
        raise ApplyError(name, found=f"shape {tuple(shape)}", allowed=allowed)
    return fill(tuple(shape), pairs)
