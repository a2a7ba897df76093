"""From a survey and a spec to a plan: what is to be drawn for every block of every tensor, checked in full.

A plan holds no numbers yet.  All that can be wrong is found here, before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from critinit.errors import ApplyError
from critinit.spec import InitSpec
from critinit.tensors.application import StepLimit
from critinit.tensors.blocks import Block
from critinit.tensors.sampling import Draw, Part, draws_of
from critinit.tensors.selecting import matches
from critinit.tensors.stacking import stacks
from critinit_adapters.shared.survey import LayerSlot, RecurrentModule, Survey, Tensor

__all__ = ["Plan", "Write", "plan"]


@dataclass(frozen=True, slots=True)
class Write:
    """One tensor to be written.

    Attributes:
        tensor: The tensor.
        layer: The layer of the spec that it takes.
        direction: 0 for forward, 1 for backward.
        draws: Every block with its draw; None where the block becomes 0.
        limits: The limits on the learning rate that the spec states for its blocks.
    """

    tensor: Tensor
    layer: int
    direction: int
    draws: tuple[tuple[Block, Draw | None], ...]
    limits: tuple[StepLimit, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        writes: All writes, in order.
        untouched: The names of the tensors that stay as they are.
        notes: What the report is to say in words.
    """

    writes: tuple[Write, ...]
    untouched: tuple[str, ...]
    notes: tuple[str, ...]


def plan(
    spec: InitSpec,
    survey: Survey,
    cells: Sequence[str],
    seed: int,
    include: Sequence[str] | None,
    *,
    may_pair: bool = False,
) -> Plan:
    """Return the plan for a spec.

    Args:
        spec: The spec.
        survey: What was found in the target.
        cells: The cells that the framework has layers for, to be named in errors.
        seed: The seed of the draws.
        include: Patterns of module paths that narrow what is written, or None.
        may_pair: Whether the target may hold the two directions of a layer as separate cells, to be paired by the
            option ``bidirectional``.

    Raises:
        ApplyError: Something does not fit; the error names it.
    """
    own = _distinct([module for module in survey.modules if module.takes(spec.cell)])
    if not own:
        raise _nothing(spec, survey, cells)
    number = {id(module): index for index, module in enumerate(own)}
    chosen = _included(own, include)
    for module in chosen:
        _check_fit(spec, module)
    together = _stacks(chosen, len(spec.layers), may_pair)
    writes = [
        write
        for stack in together
        for start, module in _starts(stack)
        for slot in module.slots
        for write in _writes(spec, module, slot, start + slot.layer, min(number[id(m)] for m in stack), seed)
    ]
    changed = _changed(survey, writes)
    untouched = tuple(name for name in survey.tensors if name not in changed)
    notes = (
        *_left_alone(survey, spec),
        *_projections(chosen, spec),
        *(_order(stack, chosen) for stack in together if len(stack) > 1),
        *_shared(survey, changed),
    )
    return Plan(tuple(writes), untouched, notes)


def _nothing(spec: InitSpec, survey: Survey, cells: Sequence[str]) -> ApplyError:
    """The error of a target without a layer of the spec's cell."""
    found = ", ".join(f"{module.cell} at {module}" for module in survey.modules) or "no recurrent layer"
    others = dict.fromkeys(module.cell for module in survey.modules if module.cell in cells)
    hints = [
        f"this framework has layers for {', '.join(cells)}" if spec.cell not in cells else "",
        f"write the spec with --cell {' or '.join(others)}" if others else "",
    ]
    allowed = f"a layer of the spec's cell, {spec.cell}"
    return ApplyError("target", found=found, allowed=allowed, hint="; ".join(filter(None, hints)))


def _changed(survey: Survey, writes: Sequence[Write]) -> dict[str, str]:
    """What is written, by every name that it has in the model -> the name under which it is written."""
    names = {write.tensor.identity: write.tensor.name for write in writes}
    aliases = {name: names[key] for name, key in survey.keys.items() if key in names}
    return {**aliases, **{name: name for name in names.values()}}


def _distinct(modules: Sequence[RecurrentModule]) -> list[RecurrentModule]:
    """Each module once: two that share all their tensors are one; sharing a part is refused."""
    distinct: list[RecurrentModule] = []
    owner: dict[object, RecurrentModule] = {}
    for module in modules:
        keys = [tensor.identity for tensor in module.tensors]
        if len(set(keys)) < len(keys):
            raise ApplyError(str(module), found="one tensor that serves two places", hint="untie them")
        shared = [key for key in keys if key in owner]
        if not shared:
            distinct.append(module)
            owner.update(dict.fromkeys(keys, module))
        elif len(shared) < len(keys) or len({id(owner[key]) for key in keys}) > 1:
            name = next(tensor.name for tensor in module.tensors if tensor.identity in owner)
            found = f"a tensor shared with {owner[shared[0]]}"
            raise ApplyError(name, found=found, allowed="all tensors of the two shared, or none", hint="untie them")
    return distinct


def _included(modules: Sequence[RecurrentModule], include: Sequence[str] | None) -> list[RecurrentModule]:
    if include is None:
        return list(modules)
    for pattern in include:
        if not any(matches(module.name, pattern) for module in modules):
            allowed = f"a pattern that one of these matches: {', '.join(map(str, modules))}"
            raise ApplyError("include", found=repr(pattern), allowed=allowed)
    return [module for module in modules if any(matches(module.name, pattern) for pattern in include)]


def _check_fit(spec: InitSpec, module: RecurrentModule) -> None:
    if module.refusal is not None:
        where, found, allowed, hint = module.refusal
        raise ApplyError(": ".join(filter(None, (str(module), where))), found=found, allowed=allowed, hint=hint)
    for index, layer in enumerate(spec.layers):
        if layer.projection is not None:
            wanted = layer.projection.coordinates(module.hidden_size)
            if wanted != module.projection_size:
                found = f"a projection to {module.projection_size} coordinates"
                share = f"layers.{index}.projection.width {layer.projection.width:g}"
                allowed = f"{wanted} of {module.hidden_size} units, as {share} asks"
                raise ApplyError(str(module), found=found, allowed=allowed)


def _stacks(modules: Sequence[RecurrentModule], layers: int, may_pair: bool) -> list[list[RecurrentModule]]:
    """Which modules take the spec's layers together; raises where that is not clear."""
    together = stacks([module.stack for module in modules], layers)
    if together is not None:
        return [[modules[index] for index in stack] for stack in together]
    found = ", ".join(f"{module} has {module.layers}" for module in modules)
    total = sum(module.layers for module in modules)
    deeper = f"write the spec with --layers {total}"
    if len(modules) == 1:
        raise ApplyError(
            str(modules[0]),
            found=f"{total} layer{'s' * (total > 1)}",
            allowed=f"{layers}, as the spec has",
            hint=deeper,
        )
    paired = f"if these are {layers} layers in two directions, say bidirectional={_pairs(modules)}"
    ways = [
        *([paired] if may_pair and total == 2 * layers else []),
        f"if each layer reads the one before, {deeper}",
        f"else apply once for each stack of {layers}, chosen with include=",
    ]
    raise ApplyError(
        "target",
        found=f"layers that add up to something else ({found})",
        allowed=f"the spec's {layers} in each module, or in all of them together",
        hint="; ".join(ways),
    )


def _pairs(modules: Sequence[RecurrentModule]) -> str:
    """Modules two by two, as the option ``bidirectional`` takes them, where their order or their widths tell."""
    same = {module.stack: [other for other in modules if other.stack == module.stack] for module in modules}
    pairs = list(same.values())
    if any(len(pair) != 2 for pair in pairs):
        pairs = [list(pair) for pair in zip(modules[::2], modules[1::2], strict=False)]
    if any(one.stack != other.stack for one, other in pairs):
        return "[(forward path, backward path), ...]"
    return str([(one.name, other.name) for one, other in pairs])


def _starts(stack: Sequence[RecurrentModule]) -> Iterator[tuple[int, RecurrentModule]]:
    """Every module of a stack with the spec's layer that its first one takes."""
    start = 0
    for module in stack:
        yield start, module
        start += module.layers


def _writes(
    spec: InitSpec, module: RecurrentModule, slot: LayerSlot, layer: int, number: int, seed: int
) -> Iterator[Write]:
    draws = draws_of(
        spec,
        layer,
        seed=seed,
        input_size=slot.input_size,
        hidden_size=module.hidden_size,
        projection_size=module.projection_size,
        direction=slot.direction,
        module=number,
    )
    _check_complete(draws, module, slot)
    for tensor in slot.tensors:
        pairs = tuple(
            (block, None if block.part == "zero" else draws[block.gate, block.part]) for block in tensor.blocks
        )
        _check_shapes(tensor, pairs)
        yield Write(tensor, layer, slot.direction, pairs, tuple(_limits(tensor, draws)))


def _limits(tensor: Tensor, draws: Mapping[tuple[str, Part], Draw]) -> Iterator[StepLimit]:
    """What the spec states for each block; a second bias vector has the limit of the bias that it adds to."""
    for block in tensor.blocks:
        found = draws.get((block.gate or block.inside, "bias" if block.part == "zero" else block.part))
        if found is not None and found.max_learning_rate is not None:
            yield StepLimit(tensor.name, block.index, found.max_learning_rate)


def _check_complete(draws: Mapping[tuple[str, Part], Draw], module: RecurrentModule, slot: LayerSlot) -> None:
    """Every draw has its place, except biases that are 0 anyway."""
    places = {(block.gate, block.part) for tensor in slot.tensors for block in tensor.blocks}
    for key, draw in draws.items():
        problem = draw.problem()
        if problem is not None:
            raise ApplyError(
                f"{module}: {problem.where}", found=problem.found, allowed=problem.allowed, hint=problem.hint
            )
        if key in places or (draw.part == "bias" and draw.is_zero):
            continue
        asked = f"mean {draw.mean:g}, variance {draw.variance:g}"
        hint = f"{draw.path} asks for {asked}"
        raise ApplyError(str(module), found=f"no {draw.part} for gate {draw.gate}", hint=hint)


def _check_shapes(tensor: Tensor, pairs: Sequence[tuple[Block, Draw | None]]) -> None:
    """Every block is as large as its draw, and together they fill the tensor."""
    filled = 0
    blank = np.broadcast_to(np.empty(()), tensor.shape)
    for block, draw in pairs:
        region = blank[block.index].shape
        filled += prod(region)
        if draw is not None:
            wanted = draw.shape[::-1] if block.transposed else draw.shape
            if region != wanted:
                raise ApplyError(tensor.name, found=f"a place of shape {region}", allowed=f"{wanted}, for {draw.path}")
    if filled != prod(tensor.shape):
        raise ApplyError(tensor.name, found=f"shape {tensor.shape}", hint=f"the adapter knows {filled} of its numbers")


# ---- notes -----------------------------------------------------------------------------------------------


def _left_alone(survey: Survey, spec: InitSpec) -> Iterator[str]:
    for module in survey.modules:
        if not module.takes(spec.cell):
            yield f"{module}: a {module.cell}, left as it was (the spec is for {spec.cell})"


def _projections(modules: Sequence[RecurrentModule], spec: InitSpec) -> Iterator[str]:
    for module in modules:
        if module.projection_size is not None and spec.layers[0].projection is None:
            yield (
                f"{module}: projection to {module.projection_size} coordinates, drawn with orthonormal rows: second "
                "moments and χ are the spec's; the Jacobian's predicted variance is that of a layer without projection"
            )


def _order(stack: Sequence[RecurrentModule], modules: Sequence[RecurrentModule]) -> str:
    """Which module took which of the spec's layers, and why in this order."""
    widths = [module.stack for module in stack]
    if list(stack) != list(modules):
        why = "in the order in which their widths fit"
    elif all(one.gives == other.reads for one, other in pairwise(widths)):
        why = "in the order of the model"
    else:
        why = "in the order of the model, although their widths fit in no order"
    took = ", ".join(f"{module} took {_numbers(start, module.layers)}" for start, module in _starts(stack))
    return f"the modules took the spec's layers {why}: {took}"


def _numbers(start: int, count: int) -> str:
    return f"layer {start}" if count == 1 else f"layers {start} to {start + count - 1}"


def _shared(survey: Survey, changed: Mapping[str, str]) -> list[str]:
    """Tensors of other modules that are the same as one that is written."""
    ours = {tensor.name for module in survey.modules for tensor in module.tensors}
    return sorted(
        f"{name}: the same tensor as {changed[name]}, so it was written too" for name in changed.keys() - ours
    )
