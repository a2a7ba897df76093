"""For layers that are declared with a spec: the numbers of one tensor, before there is a model to survey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from critinit.cells import find_cell
from critinit.errors import ApplyError, ArgumentError
from critinit.spec import InitSpec, checked_spec
from critinit.tensors.blocks import Block, Shape
from critinit.tensors.convolutions import Pairs
from critinit.tensors.grouping import pairs_of
from critinit.tensors.sampling import check_seed, draws_of

__all__ = ["Place", "check_cell", "check_gates", "draws_in"]

_OTHER_CELL = "the layer is of another cell than the spec: write the spec for its cell (--cell)"
_MODULES = 2**32
"""The first number of a module that is too large: a stream's address has 32 bits for it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which part of a spec's draws an initializer takes.

    Without a seed it draws from what the framework hands it, and only ``layer`` counts.  With a seed it takes the
    portable draws of ``critinit.tensors.sampling.Stream``, whose address the other attributes are.

    Attributes:
        spec: The spec.
        layer: The spec's layer.
        direction: 0 for forward, 1 for backward.
        seed: The seed, or None.
        module: The number of the module in the model, where several take the whole spec.

    Raises:
        ArgumentError: The spec has no such layer, the direction is not 0 or 1, the seed is out of range, or the module
            is no number from 0.
    """

    spec: InitSpec
    layer: int = 0
    direction: int = 0
    seed: int | None = None
    module: int = 0

    def __post_init__(self) -> None:
        checked_spec(self.spec)
        for name, found, end in (
            ("layer", self.layer, len(self.spec.layers)),
            ("direction", self.direction, 2),
            ("module", self.module, _MODULES),
        ):
            if not isinstance(found, (int, np.integer)) or isinstance(found, bool) or not 0 <= found < end:
                raise ArgumentError(name, found=repr(found), allowed=f"0 to {end - 1}")
        if self.seed is not None:
            check_seed(self.seed)


def check_cell(spec: InitSpec, cells: Sequence[str]) -> None:
    """Raise ``ArgumentError`` unless the spec is for one of the cells that layers can be declared with."""
    if spec.cell not in cells:
        alike = [cell for cell in cells if find_cell(cell).gates == spec.find_cell().gates]
        hint = f"write the spec for its cell: --cell {' or '.join(alike)}" if alike else ""
        raise ArgumentError("spec", found=f"cell {spec.cell}", allowed=", ".join(cells), hint=hint)


def check_gates(spec: InitSpec, name: str, shape: Sequence[int], cells: Sequence[str]) -> None:
    """Raise ``ApplyError`` where a recurrent kernel (…, H, gates·H) is that of a layer with another number of gates.

    Args:
        spec: The spec.
        name: The tensor's name, for errors.
        shape: The kernel's shape.
        cells: The cells that layers of the framework can be declared with.
    """
    found, wanted = shape[-1] / shape[-2], len(spec.find_cell().gates)
    if found != wanted:
        alike = [cell for cell in cells if len(find_cell(cell).gates) == found]
        hint = f"write the spec for its cell: --cell {' or '.join(alike)}" if alike else _OTHER_CELL
        allowed = f"one of {wanted}, for {spec.cell}"
        raise ApplyError(name, found=f"a kernel of {found:g} gate{'s' * (found != 1)}", allowed=allowed, hint=hint)


def draws_in(
    place: Place,
    name: str,
    shape: Sequence[int],
    blocks: Sequence[Block],
    input_size: int,
    hidden_size: int,
    hint: str = "",
    window: Shape = (),
) -> Pairs:
    """Return what is drawn for every block of one tensor.

    Args:
        place: Which of the spec's draws it takes; where it has no seed, the draws' streams are to be replaced.
        name: The tensor's name, for errors.
        shape: The tensor's shape.
        blocks: The blocks of the tensor.
        input_size: The width of the input; it counts only where ``blocks`` hold input kernels.
        hidden_size: The number of units.
        hint: The way out where the shape is another layer's, if there is a better one than the spec's cell.
        window: The window of a convolution's kernel.

    Raises:
        ApplyError: The blocks do not fit the shape.
        ArgumentError: The spec's distribution cannot have that shape.
    """
    groups = draws_of(
        place.spec,
        place.layer,
        seed=place.seed or 0,
        input_size=input_size,
        hidden_size=hidden_size,
        direction=place.direction,
        module=place.module,
        window=window,
    )
    whole = tuple(shape)
    pairs = pairs_of(blocks, whole, groups)
    filled = sum(prod(block.region(whole)) for block, _ in pairs)
    if filled != prod(whole) or any(block.holds(whole) != draw.shape for block, draw in pairs if draw is not None):
        allowed = f"that of a {place.spec.cell} of {hidden_size} units"
        raise ApplyError(name, found=f"shape {tuple(shape)}", allowed=allowed, hint=hint or _OTHER_CELL)
    for _, draw in pairs:
        problem = draw and draw.problem()
        if problem:
            raise ArgumentError(problem.where, found=problem.found, allowed=problem.allowed, hint=problem.hint)
    return pairs
