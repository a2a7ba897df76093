"""What an adapter finds in a model.

A *recurrent module* is what the framework runs as one thing: one or several recurrent layers, one above the other.  It
has a *layer slot* for every layer and direction.  A slot has *tensors*, and a tensor is cut into *blocks*
(``critinit.tensors.blocks``), each of which holds one gate's part.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from critinit.errors import Problem
from critinit.tensors.blocks import Block
from critinit.tensors.stacking import Stack

__all__ = ["LayerSlot", "Lookalike", "RecurrentModule", "Survey", "Tensor"]


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One tensor of the model and what lives in it.

    Attributes:
        name: Its path, as the framework writes it.
        shape: Its full shape.
        handle: What the adapter needs to read and write it.
        blocks: The blocks that it is cut into.
        key: The same for tensors that are one and the same; the identity of the handle unless given.
        is_partial: Whether it holds other numbers too, which stay as they are.
        frozen: Why an optimizer leaves it alone ("requires_grad=False"), or nothing.
        member: The place along its first axes that belongs to one of many stacked networks; () where it is whole.
    """

    name: str
    shape: tuple[int, ...]
    handle: Any
    blocks: tuple[Block, ...]
    key: Hashable = None
    is_partial: bool = False
    frozen: str = ""
    member: tuple[int, ...] = ()

    @property
    def whole(self) -> Hashable:
        """``key``, filled in: what all parts of one tensor have in common."""
        return id(self.handle) if self.key is None else self.key

    @property
    def identity(self) -> Hashable:
        """What tells it from other tensors, and one network's part of it from another's."""
        return (self.whole, self.member) if self.member else self.whole

    @property
    def label(self) -> str:
        """Its name for people, with the place of the network among those that are stacked in it."""
        return f"{self.name}[{', '.join(map(str, self.member))}]" if self.member else self.name


@dataclass(frozen=True, slots=True)
class LayerSlot:
    """One layer in one direction.

    Attributes:
        layer: Its number within the module, from 0.
        direction: 0 for forward, 1 for backward.
        input_size: The width of what it reads.
        tensors: Its tensors.
        window: The window of a convolutional layer's kernels; its input size is then the number of channels.
    """

    layer: int
    direction: int
    input_size: int
    tensors: tuple[Tensor, ...]
    window: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RecurrentModule:
    """One or several recurrent layers that the framework runs as one thing.

    Attributes:
        name: Its path in the model; "" is the model itself.
        cell: critinit's name of its cell.
        hidden_size: Its number of units.
        slots: Its layers in their directions.
        projection_size: The width of the projected state, where it is projected.
        also: A further cell whose specs describe it, where there is one.
        refusal: Why no spec can be applied to it, or None.  It counts only where the module would be written.
        overrides: What its class computes in its own way, in words, where it derives from a known layer; or nothing.
        stacked: The axes in front by which many such networks are stacked in the tensors (see ``stacked.members``).
        member: Which of the stacked networks it is, where it is one.
    """

    name: str
    cell: str
    hidden_size: int
    slots: tuple[LayerSlot, ...]
    projection_size: int | None = None
    also: str | None = None
    refusal: Problem | None = None
    overrides: str = ""
    stacked: tuple[int, ...] = ()
    member: tuple[int, ...] = ()

    @property
    def layers(self) -> int:
        """Number of layers."""
        return 1 + max((slot.layer for slot in self.slots), default=0)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors of all slots."""
        return tuple(tensor for slot in self.slots for tensor in slot.tensors)

    @property
    def stack(self) -> Stack:
        """Its layers and widths; only for a module without a refusal."""
        directions = 1 + max(slot.direction for slot in self.slots)
        return Stack(self.layers, self.slots[0].input_size, directions * (self.projection_size or self.hidden_size))

    @property
    def path(self) -> str:
        """Its path in the model; of a stacked network, the path that it shares with the others."""
        return "/".join(self.name.split("/")[: -len(self.member) or None])

    def takes(self, cell: str) -> bool:
        """Return whether a spec for ``cell`` describes it."""
        return cell in (self.cell, self.also)

    def __str__(self) -> str:
        return repr(self.name) if self.name else "the model itself"


class Lookalike(NamedTuple):
    """A module that looks recurrent and is none that the adapter knows.

    Attributes:
        name: Its path in the model; "" is the model itself.
        kind: Its class, or what is known of it.
        reason: Why it was not taken.
        can_be_stated: Whether ``where`` can say in which tensors its gates lie.
    """

    name: str
    kind: str
    reason: str
    can_be_stated: bool = True

    def __str__(self) -> str:
        return f"{self.kind} at {repr(self.name) if self.name else 'the model itself'}"


@dataclass(frozen=True, slots=True)
class Survey:
    """What an adapter found in a target.

    Attributes:
        modules: The recurrent modules, in the order of the model.
        tensors: The names of all tensors of the model.
        keys: By name, the ``Tensor.whole`` of those that other places of the model can share.
        lookalikes: Modules that look recurrent and were not taken.
        is_ordered: Whether the modules are in an order that the user stated.
        nodes: All parts of the model, for an adapter that walks through them again.
    """

    modules: tuple[RecurrentModule, ...]
    tensors: tuple[str, ...]
    keys: Mapping[str, Hashable] = field(default_factory=dict)
    lookalikes: tuple[Lookalike, ...] = ()
    is_ordered: bool = False
    nodes: tuple[Any, ...] = ()
