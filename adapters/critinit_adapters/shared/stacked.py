"""Weights that ``vmap`` or ``scan`` stacked: a model holds many networks in tensors that have further axes in front.

An adapter describes such a module as one network and says by ``stacked`` how long the further axes are.  What is
written are its *members*, each a network of its own with the numbers at one place of these axes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from critinit.tensors.blocks import Shape
from critinit_adapters.shared.survey import RecurrentModule, Tensor

__all__ = ["STACKED", "alone", "leading", "members"]


STACKED = (
    "weights that vmap or scan stacked have their further axes in front, the same in every tensor of a cell; for "
    "others apply the spec to each slice with a seed of its own, and stack the results (docs/own-modules.md#ensembles)"
)
"""The way out for stacked weights that are stored in another way."""


def alone(tensor: Tensor) -> Tensor:
    """Return what a tensor would be if a member's part were all of it; for members alone."""
    return replace(tensor, shape=tensor.shape[len(tensor.member) :], is_partial=False) if tensor.member else tensor


def leading(tensors: Iterable[tuple[Shape, int]]) -> Shape:
    """Return the axes in front that tensors have beyond their own, where these are the same for all; else none.

    Args:
        tensors: The shape of each tensor, and how many axes it has by itself.

    Example:
        >>> leading([((4, 2, 96), 2), ((4, 96), 1)])
        (4,)
    """
    found = {shape[: max(len(shape) - axes, 0)] for shape, axes in tensors}
    return found.pop() if len(found) == 1 else ()


def members(module: RecurrentModule) -> tuple[RecurrentModule, ...]:
    """Return the networks that are stacked in a module, each under the module's path and its numbers; or the module."""
    if not module.stacked:
        return (module,)
    return tuple(_member(module, tuple(map(int, place))) for place in np.ndindex(*module.stacked))


def _member(module: RecurrentModule, place: tuple[int, ...]) -> RecurrentModule:
    slots = tuple(replace(slot, tensors=tuple(_part(t, place) for t in slot.tensors)) for slot in module.slots)
    name = "/".join(filter(None, (module.name, *map(str, place))))
    return replace(module, name=name, slots=slots, member=place)


def _part(tensor: Tensor, place: tuple[int, ...]) -> Tensor:
    blocks = tuple(replace(block, index=(*place, *block.index)) for block in tensor.blocks)
    return replace(tensor, blocks=blocks, is_partial=True, member=place)
