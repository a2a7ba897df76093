"""Modules of one's own: from what a user says of its tensors (``where=``) to a survey."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from statistics import mode
from typing import Any

import numpy as np

from critinit.cells import Cell
from critinit.errors import ApplyError, Problem
from critinit.tensors.blocks import Block
from critinit.tensors.places import Place, read_where
from critinit_adapters.shared.survey import LayerSlot, RecurrentModule, Survey, Tensor

__all__ = ["by_path", "survey_own", "walk"]

_NAMED = 8
"""Names of tensors that a message lists."""
Placed = tuple[Place, Tensor, Block | None]


def survey_own(
    where: Any, cell: Cell, layers: int, find: Callable[[str], Tensor | None], names: Sequence[str]
) -> Survey:
    """Return the layers that ``where`` names, each as a module, with their blocks.

    Args:
        where: What the user says.
        cell: The spec's cell.
        layers: The spec's number of layers.
        find: Returns a tensor by its path, None where there is none; raises where it cannot be written.
        names: The names of the model's tensors.

    Raises:
        ArgumentError: ``where`` is not of the form that it has.
        ApplyError: A path names no tensor, a place does not fit its tensor, two overlap, or some of a tensor is named
            by nobody.
    """
    read = read_where(where, cell.gates, layers, projects=cell.projects)
    placed = [[[_placed(place, find, names) for place in way] for way in ways] for ways in read]
    every = [one for ways in placed for way in ways for one in way]
    _check_coverage(every)
    modules = []
    for number, (ways, placed_ways) in enumerate(zip(read, placed, strict=True)):
        slots = [_slot(0, n, way) for n, way in enumerate(placed_ways)]
        hidden = _size(placed_ways[0], "recurrent", 0)
        message = _size(placed_ways[0], "recurrent", 1)
        has_projection = any(place.part == "projection" for place in ways[0])
        name = "where" if isinstance(where, Mapping) else f"where[{number}]"
        projection = message if has_projection else None
        modules.append(RecurrentModule(name, cell.name, hidden, tuple(slots), projection_size=projection))
    keys = {tensor.name: tensor.identity for _, tensor, _ in every}
    return Survey(tuple(modules), tuple(names), keys, is_ordered=True)


def _placed(place: Place, find: Callable[[str], Tensor | None], names: Sequence[str]) -> Placed:
    path = place.slice.tensor
    tensor = find(path)
    if tensor is None:
        raise ApplyError(place.path, found=f"{path!r}, where there is no tensor", allowed=_allowed(path, names))
    if place.part == "kept":
        return place, tensor, None
    block = place.slice.block(place.gate, place.part, tensor.shape)
    if isinstance(block, Problem):
        raise ApplyError(
            f"{place.path}: {tensor.name or 'the model itself'}",
            found=block.found,
            allowed=block.allowed,
            hint=block.hint,
        )
    return place, tensor, block


def _allowed(path: str, names: Sequence[str]) -> str:
    below = [name for name in names if name.replace("/", ".").startswith(f"{path}.".replace("/", "."))]
    close = below or get_close_matches(path, names, _NAMED, 0.5) or list(names)
    more = f" and {len(close) - _NAMED} more" if len(close) > _NAMED else ""
    return f"the path of a tensor, such as {', '.join(map(repr, close[:_NAMED]))}{more}" if close else "a tensor's path"


def _size(placed: Sequence[Placed], part: str, axis: int) -> int:
    """The size of an axis of a kernel, as most gates have it."""
    return mode(block.holds(tensor.shape)[axis] for place, tensor, block in placed if block and place.part == part)


def _slot(layer: int, direction: int, placed: Sequence[Placed]) -> LayerSlot:
    blocks: dict[str, tuple[Tensor, list[Block]]] = {}
    for _, tensor, block in placed:
        if block is not None:
            blocks.setdefault(tensor.name, (tensor, []))[1].append(block)
    tensors = (replace(tensor, blocks=tuple(own), is_partial=True) for tensor, own in blocks.values())
    return LayerSlot(layer, direction, _size(placed, "input", 1), tuple(tensors))


def _check_coverage(placed: Sequence[Placed]) -> None:
    """Every number of a named tensor has one place, or the tensor's others are kept."""
    tensors = {tensor.identity: tensor for _, tensor, _ in placed}
    kept = {tensor.identity for place, tensor, _ in placed if place.part == "kept"}
    for identity, tensor in tensors.items():
        count = np.zeros(tensor.shape, np.uint8)
        for place, other, block in placed:
            if block is not None and other.identity == identity:
                if count[block.index].any():
                    found = f"a place in {tensor.name or 'the model itself'} that overlaps another"
                    raise ApplyError(place.path, found=found, allowed="every number in one place")
                count[block.index] += 1
        left = int((count == 0).sum())
        if left and identity not in kept:
            raise ApplyError(
                tensor.name or "target",
                found=f"{left} of {count.size} numbers that no place names",
                hint=f"to leave them as they are, add 'kept': [{tensor.name!r}] to the layer in where=, "
                "or give critinit.fused None for a chunk of no gate",
            )


def by_path(names: Mapping[str, Tensor], path: str) -> Tensor | None:
    """Return the tensor of a path, whether "." or "/" separates its parts."""
    if path in names:
        return names[path]
    plain = path.replace("/", ".")
    return next((tensor for name, tensor in names.items() if name.replace("/", ".") == plain), None)


def walk(root: Any, path: str) -> Any:
    """Return what stands at a path of attributes, items and numbers; None where there is nothing.

    Example:
        >>> walk({"cells": [{"w": 3}]}, "cells.0.w")
        3
    """
    here = root
    for part in path.split(".") if path else ():
        here = next((found for found in _steps(here, part) if found is not None), None)
        if here is None:
            return None
    return here


def _steps(here: Any, part: str) -> Iterator[Any]:
    if isinstance(here, Mapping):
        yield here.get(part)
    elif isinstance(here, Sequence) and part.isdigit():
        yield here[int(part)] if int(part) < len(here) else None
    yield getattr(here, part, None)
    if part.isdigit() and hasattr(here, "__getitem__") and hasattr(here, "__len__"):
        yield here[int(part)] if int(part) < len(here) else None
