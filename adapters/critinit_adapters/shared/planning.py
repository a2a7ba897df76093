"""From a survey and a spec to a plan: what is to be drawn for every block of every tensor, checked in full.

A plan holds no numbers yet.  All that can be wrong is found here, before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod

import numpy as np

from critinit.errors import ApplyError
from critinit.tensors.blocks import Block
from critinit.tensors.stacking import stacks
from critinit.tensors.sampling import Draw, Part, draws_of
from critinit.spec import InitSpec
from critinit_adapters.shared.survey import Network, Site, Survey, Tensor

__all__ = ["Plan", "Write", "plan"]


@dataclass(frozen=True, slots=True)
class Write:
    """One tensor to be written: every block with its draw (None: zeros)."""

    tensor: Tensor
    layer: int
    direction: int
    draws: tuple[tuple[Block, Draw | None], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All writes in order, the names of what is left alone, and what the report is to say in words."""

    writes: tuple[Write, ...]
    untouched: tuple[str, ...]
    notes: tuple[str, ...]


def plan(spec: InitSpec, survey: Survey, seed: int, include: Sequence[str] | None) -> Plan:
    """The plan for ``spec``; raises ``ApplyError`` naming what does not fit."""
    own = _distinct([network for network in survey.networks if network.takes(spec.cell)])
    if not own:
        others = ", ".join(f"{n.cell} at {n}" for n in survey.networks) or "no recurrent network"
        raise ApplyError(f"target: the spec is for cell {spec.cell}; found {others}")
    module = {id(network): index for index, network in enumerate(own)}
    chosen = _included(own, include)
    for network in chosen:
        _fits(spec, network)
    writes = [
        write
        for stack in _stacks(chosen, len(spec.layers))
        for start, network in _starts(stack)
        for site in network.sites
        for write in _site(spec, network, site, start + site.layer, min(module[id(n)] for n in stack), seed)
    ]
    changed = _changed(survey, writes)
    shared = [
        f"{name}: the same tensor as {changed[name]}, so it was written too"
        for name in changed.keys() - {tensor.name for network in survey.networks for tensor in network.tensors}
    ]
    untouched = tuple(name for name in survey.tensors if name not in changed)
    return Plan(tuple(writes), untouched, (*_notes(survey, chosen, spec), *sorted(shared)))


def _changed(survey: Survey, writes: Sequence[Write]) -> dict[str, str]:
    """What is written, by every name that it has in the model -> the name under which it is written."""
    names = {write.tensor.identity: write.tensor.name for write in writes}
    aliases = {name: names[key] for name, key in survey.keys.items() if key in names}
    return {**aliases, **{name: name for name in names.values()}}


def _distinct(networks: Sequence[Network]) -> list[Network]:
    """Each network once: two that share all their tensors are one; sharing a part is refused."""
    distinct: list[Network] = []
    owner: dict[object, Network] = {}
    for network in networks:
        keys = [tensor.identity for tensor in network.tensors]
        if len(set(keys)) < len(keys):
            raise ApplyError(f"{network}: one tensor serves two places of the same network; untie them")
        shared = [key for key in keys if key in owner]
        if not shared:
            distinct.append(network)
            owner.update(dict.fromkeys(keys, network))
        elif len(shared) < len(keys) or len({id(owner[key]) for key in keys}) > 1:
            name = next(t.name for t in network.tensors if t.identity in owner)
            raise ApplyError(f"{name}: shared with {owner[shared[0]]}, but not all tensors of the two are; untie them")
    return distinct


def _included(networks: Sequence[Network], include: Sequence[str] | None) -> list[Network]:
    if include is None:
        return list(networks)
    for pattern in include:
        if not any(_matches(network.name, pattern) for network in networks):
            names = ", ".join(map(str, networks))
            raise ApplyError(f"include: {pattern!r} matches no network of the spec's cell; found: {names}")
    return [network for network in networks if any(_matches(network.name, pattern) for pattern in include)]


def _matches(name: str, pattern: str) -> bool:
    return any(fnmatchcase(name, end) for end in (pattern, f"{pattern}.*", f"{pattern}/*"))


def _fits(spec: InitSpec, network: Network) -> None:
    if network.refusal is not None:
        raise ApplyError(f"{network}: {network.refusal}")
    if network.reset != spec.reset:
        raise ApplyError(
            f"{network}: its reset gate acts {network.reset} the recurrent kernel, the spec's {spec.reset}; "
            f"the two have different dynamics; write the spec with reset {network.reset}"
        )
    for index, layer in enumerate(spec.layers):
        if layer.projected is not None:
            wanted = layer.projected.coordinates(network.hidden_size)
            if wanted != network.projection_size:
                raise ApplyError(
                    f"{network}: projects to {network.projection_size} coordinates; layers.{index}.projection.width "
                    f"{layer.projected.width:g} asks for {wanted} of {network.hidden_size} units"
                )


def _stacks(networks: Sequence[Network], layers: int) -> list[list[Network]]:
    """Which networks take the spec's layers together; raises where that is not clear."""
    counts = [network.layers for network in networks]
    together = stacks([network.stack for network in networks], layers)
    if together is not None:
        return [[networks[index] for index in stack] for stack in together]
    found = ", ".join(f"{network} has {count}" for network, count in zip(networks, counts, strict=True))
    if len(networks) == 1:
        raise ApplyError(
            f"{networks[0]}: has {counts[0]} layers, the spec has {layers}; write the spec for {counts[0]}"
        )
    raise ApplyError(
        f"target: the spec's {layers} layers fit neither each network nor all of them together ({found}); "
        "choose with include="
    )


def _starts(stack: Sequence[Network]) -> Iterator[tuple[int, Network]]:
    start = 0
    for network in stack:
        yield start, network
        start += network.layers


def _site(spec: InitSpec, network: Network, site: Site, layer: int, module: int, seed: int) -> Iterator[Write]:
    draws = draws_of(
        spec,
        layer,
        seed=seed,
        input_size=site.input_size,
        hidden_size=network.hidden_size,
        projection_size=network.projection_size,
        direction=site.direction,
        module=module,
    )
    _complete(draws, network, site)
    for tensor in site.tensors:
        pairs = tuple(
            (block, None if block.part == "zero" else draws[block.gate, block.part]) for block in tensor.blocks
        )
        _shapes(tensor, pairs)
        yield Write(tensor, layer, site.direction, pairs)


def _complete(draws: Mapping[tuple[str, Part], Draw], network: Network, site: Site) -> None:
    """Every draw has its place, except biases that are 0 anyway."""
    places = {(block.gate, block.part) for tensor in site.tensors for block in tensor.blocks}
    for key, draw in draws.items():
        problem = draw.problem()
        if problem is not None:
            raise ApplyError(f"{network}: {problem}")
        if key in places or (draw.part == "bias" and draw.is_zero):
            continue
        asked = f"mean {draw.mean:g}, variance {draw.variance:g}"
        raise ApplyError(f"{network}: has no {draw.part} for gate {draw.gate}, and {draw.path} asks for {asked}")


def _shapes(tensor: Tensor, pairs: Sequence[tuple[Block, Draw | None]]) -> None:
    """Every block is as large as its draw, and together they fill the tensor."""
    filled = 0
    blank = np.broadcast_to(np.empty(()), tensor.shape)
    for block, draw in pairs:
        region = blank[block.index].shape
        filled += prod(region)
        if draw is not None and region != (draw.shape[::-1] if block.transposed else draw.shape):
            raise ApplyError(f"{tensor.name}: {draw.path} has shape {draw.shape}, its place in the tensor {region}")
    if filled != prod(tensor.shape):
        raise ApplyError(f"{tensor.name}: found shape {tensor.shape}, of which the adapter knows {filled} numbers")


def _notes(survey: Survey, chosen: Sequence[Network], spec: InitSpec) -> tuple[str, ...]:
    notes = [
        f"{n}: a {n.cell}, left as it was (the spec is for {spec.cell})"
        for n in survey.networks
        if not n.takes(spec.cell)
    ]
    notes += [
        f"{n}: projection to {n.projection_size} coordinates, drawn with orthonormal rows: second moments "
        "and χ are the spec's; the Jacobian's predicted variance is that of a network without projection"
        for n in chosen
        if n.projection_size is not None and spec.layers[0].projected is None
    ]
    return tuple(notes)
