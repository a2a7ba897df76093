"""Where each gate lives in a framework's tensors: the vocabulary of the adapters.

A *network* is one stack of recurrent layers that the framework runs as one thing; it has a *site* for every
layer and direction; a site has *tensors*; a tensor is cut into *blocks*, each holding one gate's part:

    stored[index] = sign · (canonical, transposed where so) + offset

with the canonical forms of ``critinit.sampling``: recurrent (H, F), input (H, I), bias (H,), projection (P,
H).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from critinit.sampling import Part

__all__ = ["Block", "Network", "Site", "Survey", "Tensor", "fused", "whole", "zeros"]

Index = tuple[slice | int, ...]
_NONE: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Block:
    """One gate's part in a tensor, or a region to be zeroed (part "zero").

    ``index``: the region, () for the whole tensor; a number drops its axis.  ``transposed``: stored as
    (fan_in, H).
    """

    gate: str
    part: Part | Literal["zero"]
    index: Index = ()
    transposed: bool = False
    sign: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One tensor of the model and what lives in it.

    ``name`` is its path as the framework writes it; ``shape`` its full shape; ``handle`` what the adapter
    needs to read and write it; ``key`` says which tensors are one and the same (default: the handle's
    identity).
    """

    name: str
    shape: tuple[int, ...]
    handle: Any
    blocks: tuple[Block, ...]
    key: Hashable = None

    @property
    def identity(self) -> Hashable:
        """``key``, filled in."""
        return id(self.handle) if self.key is None else self.key


@dataclass(frozen=True, slots=True)
class Site:
    """One layer in one direction, reading inputs of width ``input_size``."""

    layer: int
    direction: int
    input_size: int
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Network:
    """A stack of recurrent layers, found at path ``name`` ("" is the target itself).

    ``cell`` and ``reset`` are critinit's names.  ``refusal`` says why no spec can be applied to it, if so (a
    relu RNN, parametrized weights); it counts only if the network would be written.
    """

    name: str
    cell: str
    hidden_size: int
    sites: tuple[Site, ...]
    reset: str | None = None
    projection_size: int | None = None
    refusal: str | None = None

    @property
    def layers(self) -> int:
        """Number of layers."""
        return 1 + max((site.layer for site in self.sites), default=0)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors of all sites."""
        return tuple(tensor for site in self.sites for tensor in site.tensors)

    def __str__(self) -> str:
        return repr(self.name) if self.name else "the target itself"


@dataclass(frozen=True, slots=True)
class Survey:
    """What an adapter found in a target: its networks, in the tree's order, and the names of all tensors."""

    networks: tuple[Network, ...]
    tensors: tuple[str, ...]


def fused(
    gates: Sequence[str],
    part: Part,
    axis: int,
    width: int,
    *,
    transposed: bool = False,
    sign: Mapping[str, float] = _NONE,
    offset: Mapping[str, float] = _NONE,
    within: Mapping[int, slice | int] = MappingProxyType({}),
) -> tuple[Block, ...]:
    """The blocks of a fused tensor: ``gates`` side by side along ``axis``, each ``width`` wide.

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


def whole(
    gate: str, part: Part, *, transposed: bool = False, sign: float = 1.0, offset: float = 0.0
) -> tuple[Block, ...]:
    """The one block of a tensor that a single gate's part fills."""
    return (Block(gate, part, (), transposed, sign, offset),)


def zeros(*index: slice | int) -> tuple[Block, ...]:
    """A region that is set to 0; the whole tensor by default."""
    return (Block("", "zero", index),)
