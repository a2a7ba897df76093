"""For initializers made from a spec: the numbers of one tensor, before there is a model to survey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from critinit.errors import ApplyError, ArgumentError
from critinit.tensors.blocks import Block
from critinit.tensors.sampling import check_seed, draws_of
from critinit.spec import InitSpec
from critinit_adapters.shared.adapter import assemble
from critinit_adapters.shared.survey import Tensor
from critinit_adapters.shared.planning import Write

__all__ = ["Place", "values"]


@dataclass(frozen=True, slots=True)
class Place:
    """Which part of a spec's draws an initializer takes, as ``critinit.tensors.sampling.Stream`` counts them.

    Raises ``ArgumentError`` for a layer that the spec does not have, a direction other than 0 and 1, or a seed
    out of range.
    """

    spec: InitSpec
    layer: int = 0
    direction: int = 0
    seed: int = 0
    module: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.spec, InitSpec):
            raise ArgumentError(f"spec: found {type(self.spec).__name__}; allowed: an InitSpec")
        for name, found, end in (("layer", self.layer, len(self.spec.layers)), ("direction", self.direction, 2)):
            if not 0 <= found < end:
                raise ArgumentError(f"{name}: found {found!r}; allowed: 0 to {end - 1}")
        check_seed(self.seed)


def values(
    place: Place, name: str, shape: Sequence[int], blocks: Sequence[Block], input_size: int, hidden_size: int
) -> NDArray[np.float64]:
    """The tensor in float64: exactly what ``critinit.apply`` writes, portably, into a model of one network.

    ``input_size`` counts only where ``blocks`` hold input kernels.  Raises ``ApplyError`` where the blocks do not
    fit ``shape``, and ``ArgumentError`` where the spec's law cannot have that shape.
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
    tensor = Tensor(name, tuple(shape), None, tuple(blocks))
    blank = np.broadcast_to(np.empty(()), tensor.shape)
    wanted = [draw.shape[::-1] if block.transposed else draw.shape for block, draw in pairs if draw is not None]
    found = [blank[block.index].shape for block, draw in pairs if draw is not None]
    if wanted != found or sum(blank[block.index].size for block in blocks) != blank.size:
        raise ApplyError(f"{name}: found shape {tensor.shape}, which is no {place.spec.cell} of {hidden_size} units")
    return assemble(Write(tensor, place.layer, place.direction, pairs))
