"""What an adapter finds in a model: the vocabulary of the adapters.

A *network* is one stack of recurrent layers that the framework runs as one thing; it has a *site* for every
layer and direction; a site has *tensors*; a tensor is cut into *blocks* (``critinit.tensors.layouts``), each holding one
gate's part.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from critinit.tensors.blocks import Block
from critinit.tensors.stacking import Stack

__all__ = ["Network", "Site", "Survey", "Tensor"]


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

    ``cell`` and ``reset`` are critinit's names; ``projected_cell`` is that of the cell which states the projection too.
    ``refusal`` says why no spec can be applied to it, if so (a
    relu RNN, parametrized weights); it counts only if the network would be written.
    """

    name: str
    cell: str
    hidden_size: int
    sites: tuple[Site, ...]
    reset: str | None = None
    projection_size: int | None = None
    projected_cell: str | None = None
    refusal: str | None = None

    @property
    def layers(self) -> int:
        """Number of layers."""
        return 1 + max((site.layer for site in self.sites), default=0)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors of all sites."""
        return tuple(tensor for site in self.sites for tensor in site.tensors)

    @property
    def stack(self) -> Stack:
        """Its layers and widths; for a network without a refusal."""
        directions = 1 + max(site.direction for site in self.sites)
        return Stack(self.layers, self.sites[0].input_size, directions * (self.projection_size or self.hidden_size))

    def takes(self, cell: str) -> bool:
        """Whether a spec for ``cell`` describes it."""
        return cell in (self.cell, self.projected_cell)

    def __str__(self) -> str:
        return repr(self.name) if self.name else "the target itself"


@dataclass(frozen=True, slots=True)
class Survey:
    """What an adapter found in a target: its networks, in the tree's order, and the names of all tensors.

    ``keys``: by name, the ``Tensor.identity`` of those that other places of the model can share.
    """

    networks: tuple[Network, ...]
    tensors: tuple[str, ...]
    keys: Mapping[str, Hashable] = field(default_factory=dict)
