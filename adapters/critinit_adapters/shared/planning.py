"""From a survey and a spec to a plan: what is to be drawn for every block of every tensor, checked in full.

A plan holds no numbers yet.  All that can be wrong is found here, before anything is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from critinit.errors import ApplyError
from critinit.spec import InitSpec
from critinit.tensors.application import StepLimit
from critinit.tensors.blocks import Block
from critinit.tensors.grouping import limits_of, pairs_of
from critinit.tensors.sampling import Draw, Part, draws_of
from critinit.tensors.selecting import matches
from critinit.tensors.stacking import stacks
from critinit_adapters.shared.stacked import STACKED, members
from critinit_adapters.shared.survey import LayerSlot, Lookalike, RecurrentModule, Survey, Tensor

__all__ = ["OWN", "Plan", "Write", "found_in", "named", "plan"]

_MOST = 8
"""Names that a message lists."""


_NO_BIAS = '{"distribution": "constant", "mean": 0, "variance": 0}'
"""A bias that is left out, as a spec says it."""


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
    trust: bool = False,
    may_pair: bool = False,
) -> Plan:
    """Return the plan for a spec.

    Args:
        spec: The spec.
        survey: What was found in the target.
        cells: The cells that the framework has layers for, to be named in errors.
        seed: The seed of the draws.
        include: Patterns of module paths that narrow what is written, or None.
        trust: Whether classes that override the step of a known layer are taken.
        may_pair: Whether the target may hold the two directions of a layer as separate cells, to be paired by the
            option ``bidirectional``.

    Raises:
        ApplyError: Something does not fit; the error names it.
    """
    modules = [member for module in survey.modules for member in members(module)]
    fitting = [module for module in modules if module.takes(spec.cell)]
    own = fitting if survey.is_ordered else _distinct(fitting)
    if not own:
        raise _nothing(spec, survey, cells)
    # networks of other cells count too: written with the same seed, they get weights of their own
    counted = [m for m in modules if any(m is one for one in own) or (m.slots and not m.takes(spec.cell))]
    number = {id(module): index for index, module in enumerate(counted)}
    chosen, ordered = _included(own, include)
    for module in chosen:
        _check_fit(spec, module, trust)
    together = _stacks(chosen, len(spec.layers), survey.is_ordered, ordered, may_pair)
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
        *_left_alone(survey, spec, include),
        *(f"{module}: {module.overrides}; written, as trust=True says" for module in chosen if module.overrides),
        *_stacked(survey, together, len(spec.layers)),
        *_projections(chosen, spec),
        *_orders(together, chosen, survey.is_ordered),
        *_each_alone(together, len(spec.layers)),
        *_frozen(writes, chosen),
        *_shared(survey, changed),
    )
    return Plan(tuple(writes), untouched, notes)


def _nothing(spec: InitSpec, survey: Survey, cells: Sequence[str]) -> ApplyError:
    """The error of a target without a layer of the spec's cell."""
    others = dict.fromkeys(module.cell for module in survey.modules if module.cell in cells and module.refusal is None)
    hints = [
        f"this framework has layers for {', '.join(cells)}" if spec.cell not in cells else "",
        f"write the spec for its cell: --cell {' or '.join(others)}" if others else "",
        _way_out(survey) or ("" if survey.modules or survey.lookalikes else OWN),
    ]
    allowed = f"a layer of the spec's cell, {spec.cell}"
    return ApplyError("target", found=found_in(survey), allowed=allowed, hint="; ".join(filter(None, hints)))


def found_in(survey: Survey) -> str:
    """Return the recurrent layers of a target in words, those too that are not known."""
    known = ", ".join(
        f"{module.cell} at {module}" + (f" (no spec takes it: {module.refusal})" if module.refusal else "")
        for module in survey.modules
    )
    alike = _listed(survey.lookalikes)
    return "; ".join(filter(None, (known or "no recurrent layer that is known", alike and f"looks recurrent: {alike}")))


OWN = "for a module of your own say with where= in which tensors its gates lie (critinit.fused, critinit.separate)"
"""The way out for classes that no adapter knows."""


def _way_out(survey: Survey) -> str:
    """``where=``, if it can describe one of the modules that look recurrent."""
    return OWN if any(one.can_be_stated for one in survey.lookalikes) else ""


def _listed(lookalikes: Sequence[Lookalike]) -> str:
    """The modules that look recurrent by class and path, each reason after those that it is true of."""
    reasons: dict[str, list[str]] = {}
    for one in lookalikes[:_MOST]:
        reasons.setdefault(one.reason, []).append(str(one))
    more = [f"and {len(lookalikes) - _MOST} more"] if len(lookalikes) > _MOST else []
    return ", ".join([*(f"{', '.join(names)} ({reason})" for reason, names in reasons.items()), *more])


def _changed(survey: Survey, writes: Sequence[Write]) -> dict[str, str]:
    """What is written, by every name that it has in the model -> the name under which it is written."""
    names = {write.tensor.whole: write.tensor.name for write in writes}
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


def _included(modules: Sequence[RecurrentModule], include: Sequence[str] | None) -> tuple[list[RecurrentModule], bool]:
    """The modules that are written, and whether ``include`` names them one by one, which is an order."""
    if include is None:
        return list(modules), False
    named = {pattern: [module for module in modules if matches(module.name, pattern)] for pattern in include}
    for pattern, found in named.items():
        if not found:
            allowed = f"a pattern that one of these matches: {', '.join(map(str, modules))}"
            raise ApplyError("include", found=repr(pattern), allowed=allowed)
    if all(len(found) == 1 for found in named.values()):
        return list({id(found[0]): found[0] for found in named.values()}.values()), len(named) > 1
    return [module for module in modules if any(matches(module.name, pattern) for pattern in include)], False


def _check_fit(spec: InitSpec, module: RecurrentModule, trust: bool) -> None:
    if module.refusal is not None:
        where, found, allowed, hint = module.refusal
        raise ApplyError(": ".join(filter(None, (str(module), where))), found=found, allowed=allowed, hint=hint)
    if module.overrides and not trust:
        hint = (
            "if it computes the same all the same, say trust=True; if it does not, describe what it computes as a cell "
            "(docs/cells.md), write a spec for that, and say with where= in which tensors its gates lie"
        )
        raise ApplyError(str(module), found=module.overrides, allowed=f"the step of {spec.cell}", hint=hint)
    for index, layer in enumerate(spec.layers):
        if layer.projection is not None:
            wanted = layer.projection.coordinates(module.hidden_size)
            if wanted != module.projection_size:
                found = f"a projection to {module.projection_size} coordinates"
                share = f"layers.{index}.projection.width {layer.projection.width:g}"
                allowed = f"{wanted} of {module.hidden_size} units, as {share} asks"
                raise ApplyError(str(module), found=found, allowed=allowed)


def _stacks(
    modules: Sequence[RecurrentModule], layers: int, ordered: bool, named: bool, may_pair: bool
) -> list[list[RecurrentModule]]:
    """Which modules take the spec's layers together; raises where that is not clear.

    Their order counts where it is stated (``ordered``), and where widths fit in none and each is named (``named``).
    """
    taken = _together(modules, layers, ordered) or _by_member(modules, layers, ordered)
    if taken is not None:
        for stack in taken if not (ordered or named) else ():
            if any(one.stack.gives != other.stack.reads for one, other in pairwise(stack)):
                raise _no_order(stack)
        return taken
    found = ", ".join(f"{module} has {module.layers}" for module in modules)
    total = sum(module.layers for module in modules)
    deeper = f"write the spec with layers={total} (--layers {total})"
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


def _together(modules: Sequence[RecurrentModule], layers: int, ordered: bool) -> list[list[RecurrentModule]] | None:
    """Which modules take the spec's layers together, or None."""
    found = stacks([module.stack for module in modules], layers, ordered=ordered)
    return None if found is None else [[modules[index] for index in stack] for stack in found]


def _by_member(modules: Sequence[RecurrentModule], layers: int, ordered: bool) -> list[list[RecurrentModule]] | None:
    """The same within each member of an ensemble, whose modules have the same place in their stacks; or None."""
    ensemble: dict[tuple[int, ...], list[RecurrentModule]] = {}
    for module in modules:
        ensemble.setdefault(module.member, []).append(module)
    found = [_together(member, layers, ordered) for member in ensemble.values()]
    return [stack for each in found if each is not None for stack in each] if all(found) else None


def _pairs(modules: Sequence[RecurrentModule]) -> str:
    """Modules two by two, as the option ``bidirectional`` takes them, where their order or their widths tell."""
    same = {module.stack: [other for other in modules if other.stack == module.stack] for module in modules}
    pairs = list(same.values())
    if any(len(pair) != 2 for pair in pairs):
        pairs = [list(pair) for pair in zip(modules[::2], modules[1::2], strict=False)]
    if any(one.stack != other.stack for one, other in pairs):
        return "[(forward path, backward path), ...]"
    return str([(one.name, other.name) for one, other in pairs])


def _no_order(stack: Sequence[RecurrentModule]) -> ApplyError:
    """The error of modules that together have the spec's layers, and whose widths fit in no order."""
    widths = ", ".join(f"{module} reads {module.stack.reads} and gives {module.stack.gives}" for module in stack)
    order = ", ".join(repr(module.name) for module in stack)
    each = {module.layers for module in stack}
    alone = (
        f"; if each is a network of its own, write the spec with layers={min(each)} (--layers {min(each)})"
        if len(each) == 1
        else ""
    )
    return ApplyError(
        "target",
        found=f"modules of which none reads what another gives ({widths})",
        allowed="an order in which each reads the width that the one before gives",
        hint=f"if other layers stand between them, say the order of the layers: include=[{order}]{alone}",
    )


def _starts(stack: Sequence[RecurrentModule]) -> Iterator[tuple[int, RecurrentModule]]:
    """Every module of a stack with the spec's layer that its first one takes."""
    start = 0
    for module in stack:
        yield start, module
        start += module.layers


def _writes(
    spec: InitSpec, module: RecurrentModule, slot: LayerSlot, layer: int, number: int, seed: int
) -> Iterator[Write]:
    groups = draws_of(
        spec,
        layer,
        seed=seed,
        input_size=slot.input_size,
        hidden_size=module.hidden_size,
        projection_size=module.projection_size,
        direction=slot.direction,
        module=number,
        window=slot.window,
    )
    for group in groups:
        _check_complete(group.draws, module, slot)
    for tensor in slot.tensors:
        pairs = pairs_of(tensor.blocks, tensor.shape, groups)
        _check_shapes(tensor, pairs)
        limits = tuple(
            StepLimit(tensor.name, index, limit) for index, limit in limits_of(tensor.blocks, tensor.shape, groups)
        )
        yield Write(tensor, layer, slot.direction, pairs, limits)


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
        if draw.part == "bias":
            every = re.sub(r"(layers|groups|gates)\.\w+", r"\1.*", draw.path)
            hint += f"; give the layer a bias, or write the spec with biases of 0: --set '{every}={_NO_BIAS}'"
        raise ApplyError(str(module), found=f"no {draw.part} for gate {draw.gate}", hint=hint)


def _check_shapes(tensor: Tensor, pairs: Sequence[tuple[Block, Draw | None]]) -> None:
    """Every block is as large as its draw, and together they fill the tensor."""
    filled = 0
    for block, draw in pairs:
        filled += prod(block.region(tensor.shape))
        if draw is not None:
            held = block.holds(tensor.shape)
            if held != draw.shape:
                turned = " (transposed)" if block.transposed else ""
                found = f"a place of shape {held}{turned}"
                hint = STACKED if tensor.member else ""
                raise ApplyError(tensor.label, found=found, allowed=f"{draw.shape}, for {draw.path}", hint=hint)
    if filled != prod(tensor.shape[len(tensor.member) :]) and (tensor.member or not tensor.is_partial):
        raise ApplyError(tensor.name, found=f"shape {tensor.shape}", hint=f"the adapter knows {filled} of its numbers")


# ---- notes -----------------------------------------------------------------------------------------------


def _left_alone(survey: Survey, spec: InitSpec, include: Sequence[str] | None) -> Iterator[str]:
    for module in survey.modules:
        asked = include is None or any(matches(module.name, pattern) for pattern in include)
        if asked and not module.takes(spec.cell):
            yield f"{module}: a {module.cell}, left as it was (the spec is for {spec.cell})"
    if survey.lookalikes:
        left = f"looks recurrent and was left as it was: {_listed(survey.lookalikes)}"
        yield "; ".join(filter(None, (left, _way_out(survey))))


def _stacked(survey: Survey, together: Sequence[Sequence[RecurrentModule]], layers: int) -> Iterator[str]:
    """Modules that hold many networks, one at each place of the axes in front, which are not layers of one spec."""
    taken = {module.name: stack for stack in together for module in stack if len({one.member for one in stack}) == 1}
    for module in survey.modules:
        found = [taken[member.name] for member in members(module) if module.stacked and member.name in taken]
        if found:
            chained = len(found) > 1 and len(found[0]) == 1 and module.stack.reads == module.stack.gives
            deeper = f"critinit.generate(..., layers={layers * len(found)})"
            above = f"; if they are layers, one above the other, write one spec for them, {deeper}" if chained else ""
            total = prod(module.stacked)
            which = "" if len(found) == total else f"{len(found)} of "
            which += f"{total} stacked network{'s' * (total > 1)}"
            yield f"{module}: {which}, each with weights of its own{above}"


def _each_alone(together: Sequence[Sequence[RecurrentModule]], layers: int) -> Iterator[str]:
    """Modules that each took the whole spec although one may stand above another."""
    for number, stack in enumerate(together):
        chain = [stack[0]]
        for other in together[number + 1 :]:
            if other[0].member == chain[-1].member and other[0].stack.reads == chain[-1].stack.gives:
                chain.append(other[0])
        if len(chain) > 1:
            names = ", ".join(repr(one.path) if one.path else str(one) for one in chain)
            yield (
                f"each of {names} took the whole spec, whose first layer is for the model's input; by their widths "
                "they may stand one above the other. If they do, write one spec for them, critinit.generate(..., "
                f"layers={layers * len(chain)}), and apply it with include=[{names}]"
            )
            return


def _frozen(writes: Sequence[Write], modules: Sequence[RecurrentModule]) -> Iterator[str]:
    """What an optimizer leaves alone, by the reason, and how to write only the others."""
    found: dict[str, dict[str, None]] = {}
    for write in writes:
        found.setdefault(write.tensor.frozen, {})[write.tensor.name] = None
    free = [module.name for module in modules if not any(tensor.frozen for tensor in module.tensors)]
    hint = f"; include={free} writes only the others" if free else ""
    for why, names in found.items():
        if why:
            yield f"frozen ({why}), and written all the same: {named(tuple(names))}{hint}"


def named(names: Sequence[str]) -> str:
    """Return a list of names in words, the first few of a long one.

    Example:
        >>> named(["a", "b"])
        'a, b'
    """
    more = [f"and {len(names) - _MOST} more"] if len(names) > _MOST else []
    return ", ".join([*names[:_MOST], *more])


def _projections(modules: Sequence[RecurrentModule], spec: InitSpec) -> Iterator[str]:
    for module in modules:
        if module.projection_size is not None and spec.layers[0].projection is None:
            yield (
                f"{module}: projection to {module.projection_size} coordinates, drawn with orthonormal rows: second "
                "moments and χ are the spec's; the Jacobian's predicted variance is that of a layer without projection"
            )


def _orders(
    together: Sequence[Sequence[RecurrentModule]], modules: Sequence[RecurrentModule], ordered: bool
) -> Iterator[str]:
    """Which module took which of the spec's layers; of an ensemble, what its first member tells of all."""
    for number, stack in enumerate(together):
        if len(stack) > 1 and (number == 0 or not stack[0].member):
            also = "; and so in each member of the ensemble" if stack[0].member and len(together) > 1 else ""
            yield _order(stack, [one for one in modules if one.member == stack[0].member or not also], ordered) + also


def _order(stack: Sequence[RecurrentModule], modules: Sequence[RecurrentModule], ordered: bool) -> str:
    """Which module took which of the spec's layers, and why in this order."""
    widths = [module.stack for module in stack]
    if ordered and all(one.gives == other.reads for one, other in pairwise(widths)):
        why = "in the order that you say"
    elif not all(one.gives == other.reads for one, other in pairwise(widths)):
        why = "in the order that you say, although not each reads as many numbers as the one before gives"
    elif list(stack) != list(modules):
        why = "in the order in which their widths fit"
    else:
        why = "in the order of the model"
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
