"""Sharded parameters: what a process holds of a DTensor."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import cast

import torch

from critinit.tensors.blocks import Index

__all__ = ["is_sharded", "local", "local_regions"]


def is_sharded(tensor: torch.Tensor) -> bool:
    """Return whether this is a DTensor; seen by its attributes, as not every build has torch.distributed."""
    return hasattr(tensor, "to_local") and hasattr(tensor, "placements")


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's part of a DTensor, and any other tensor itself."""
    return cast(torch.Tensor, tensor.to_local()) if is_sharded(tensor) else tensor


def local_regions(tensor: torch.Tensor, index: Index) -> list[Index]:
    """Return the parts of ``local(tensor)`` that belong to ``tensor[index]``; without communication.

    Args:
        tensor: The tensor; a DTensor may be split along any axes, evenly or not.
        index: A region of the whole tensor.

    Returns:
        Regions that do not overlap, each a slice for every axis; none where this process holds nothing of it.
    """
    if not is_sharded(tensor):
        return [index]
    axes = [*index, *[slice(None)] * (tensor.ndim - len(index))]
    wanted = [
        range(size)[axis] if isinstance(axis, slice) else range(axis, axis + 1)
        for axis, size in zip(axes, tensor.shape, strict=True)
    ]
    runs = [list(_runs(_held(tensor, axis), wanted[axis])) for axis in range(tensor.ndim)]
    return [tuple(region) for region in product(*runs)]


def _held(tensor: torch.Tensor, axis: int) -> list[int]:
    """The coordinates along one axis that this process holds, in the order in which it holds them."""
    from torch.distributed.tensor import DTensor, Replicate

    sharded = cast(DTensor, tensor)
    mesh = sharded.device_mesh
    shape = [1] * tensor.ndim
    shape[axis] = tensor.shape[axis]
    # one number a coordinate, spread over the tensor's shape: a view, which takes no memory until it is cut
    whole = torch.arange(tensor.shape[axis], device=sharded.to_local().device).view(shape).expand(tensor.shape)
    spread = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
    held = spread.redistribute(mesh, sharded.placements).to_local()
    if not held.numel():
        return []
    for other in range(tensor.ndim):
        held = held if other == axis else held.narrow(other, 0, 1)
    return [int(coordinate) for coordinate in held.flatten().tolist()]


def _runs(held: list[int], wanted: range) -> Iterator[slice]:
    """The stretches of ``held`` that lie in ``wanted``, as slices of ``held``."""
    start = None
    for place, coordinate in enumerate([*held, None]):
        inside = coordinate is not None and coordinate in wanted
        if inside and start is None:
            start = place
        elif not inside and start is not None:
            yield slice(start, place)
            start = None
