"""Where each gate lives in a framework's tensors: the vocabulary that adapters and checkpoints share.

A tensor is cut into *blocks*, each holding one gate's part,

    stored[index] = sign · (canonical, transposed where so) + offset

with the canonical forms of ``critinit.sampling``: recurrent (H, F), input (H, I), bias (H,), projection (P, H).
A *form* is one way to store a cell (torch's GRU, Keras' GRUCell): its tensors for given sizes, and the sizes for
given tensors.  A *layout* is a framework's forms and how it names tensors.  Nothing here imports a framework;
layouts are found through the entry-point group ``critinit.layouts``, so third parties can add one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from critinit.errors import ArgumentError
from critinit.sampling import Draw, Part

__all__ = [
    "Address",
    "Block",
    "Form",
    "Layout",
    "Sizes",
    "Stack",
    "Stored",
    "below",
    "fill",
    "fused",
    "joined",
    "layouts",
    "natural",
    "second",
    "stacks",
    "whole",
    "zeros",
]

GROUP = "critinit.layouts"
Index = tuple[slice | int, ...]
Shape = tuple[int, ...]
_NONE: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Block:
    """One gate's part in a tensor, or a region to be zeroed (part "zero").

    ``index``: the region, () for the whole tensor; a number drops its axis.  ``transposed``: stored as
    (fan_in, H).  A zeroed region that names a gate is a second bias vector, added to that gate's effective bias;
    one that names none has no part in what a spec describes.
    """

    gate: str
    part: Part | Literal["zero"]
    index: Index = ()
    transposed: bool = False
    sign: float = 1.0
    offset: float = 0.0

    def stored(self, canonical: NDArray[Any]) -> NDArray[Any]:
        """What stands in the tensor for ``canonical``."""
        return np.asarray(self.sign * (canonical.T if self.transposed else canonical) + self.offset)

    def canonical(self, stored: NDArray[Any]) -> NDArray[Any]:
        """The inverse of ``stored``."""
        return np.asarray(self.sign * ((stored.T if self.transposed else stored) - self.offset))


def fused(
    gates: Sequence[str],
    part: Part | Literal["zero"],
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
    """A region that is set to 0 and is no part of what a spec describes; the whole tensor by default."""
    return (Block("", "zero", index),)


def second(
    gates: Sequence[str],
    axis: int,
    width: int,
    *,
    inside: str | None = None,
    within: Mapping[int, slice | int] = MappingProxyType({}),
) -> tuple[Block, ...]:
    """The blocks of a second bias vector, set to 0: it adds to the first, but for the gate ``inside`` r∘(·)."""
    names = ["" if gate == inside else gate for gate in gates]
    return fused(names, "zero", axis, width, within=within)


def fill(shape: Shape, pairs: Sequence[tuple[Block, Draw | None]]) -> NDArray[np.float64]:
    """A whole tensor in float64: portable draws in their blocks, 0 elsewhere."""
    values = np.zeros(shape)
    for block, draw in pairs:
        if draw is not None:
            values[block.index] = block.stored(draw.sample())
    return values


# ---- forms and layouts -----------------------------------------------------------------------------------


class Sizes(NamedTuple):
    """The widths of one layer: input I, hidden H, and P where the state is projected."""

    input: int
    hidden: int
    projection: int | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a cell: its name below the cell, its shape and what lives in it.

    ``optional``: a cell can be without it (``bias=False``); what it would hold then counts as 0.  ``rare``: only some
    versions of the framework have it, so it is read where it is found and never written.
    """

    name: str
    shape: Shape
    blocks: tuple[Block, ...]
    optional: bool = False
    rare: bool = False


@dataclass(frozen=True)
class Form:
    """One way in which a framework stores one layer, in one direction, of a cell.

    ``name``: the framework's class.  ``reset``: critinit's reset variant.  ``names``: all tensors it can have.
    ``tensors``: those of a layer of the given sizes.  ``sizes``: the sizes that tensors of the given shapes would
    be of, by the few shapes that decide it, or None; whoever asks compares the rest.  ``path``: what the module's path
    must match for its tensors to be taken for this form unasked, where names and shapes say too little.
    """

    name: str
    cell: str
    reset: str | None
    names: tuple[str, ...]
    tensors: Callable[[Sizes], tuple[Stored, ...]]
    sizes: Callable[[Mapping[str, Shape]], Sizes | None]
    path: str = ""

    @property
    def children(self) -> frozenset[str]:
        """The parts of the cell that its tensors belong to, where these have names of two parts ("hr/kernel")."""
        return frozenset(name.rpartition("/")[0] for name in self.names if "/" in name)


class Address(NamedTuple):
    """Whose tensor it is: the module's path, the layer and direction within it, the tensor's name in its form."""

    module: str
    layer: int
    direction: int
    tensor: str


def joined(address: Address) -> str:
    """The tensor's name at the end of its module's path, "/" between."""
    return "/".join(filter(None, (address.module, address.tensor)))


def below(forms: Sequence[Form]) -> Callable[[str], Address | None]:
    """The ``split`` of a framework whose tensors' names stand at the end of their modules' paths.

    Both "/" and "." separate; a box of metadata (".../value") and TensorFlow's ":0" are seen through.
    """
    names = sorted({name for form in forms for name in form.names}, key=len, reverse=True)
    ends = "|".join(re.escape(name).replace("/", "[/.]") for name in names)
    pattern = re.compile(rf"(?:(?P<module>.+?)[/.])?(?P<tensor>{ends})(?:[/.](?:raw_)?value|:0)?")

    def split(name: str) -> Address | None:
        match = pattern.fullmatch(name)
        return match and Address(match["module"] or "", 0, 0, match["tensor"].replace(".", "/"))

    return split


@dataclass(frozen=True)
class Layout:
    """A framework's forms, and how it names the tensors of a model.

    ``forms``: of several forms of one cell, the first is what is written.  ``path``: (form, layers, directions,
    layer, direction) -> the module's path in a model built as ``model`` says in words.  ``split`` takes a tensor's
    name apart (None: not of this framework), ``join`` puts it together.  ``readers``: format of a file that the
    framework alone can read ("torch") -> a function from its path to type and array by name.
    ``own``: ending of an HDF5 file that the framework's own loader takes (".weights.h5") -> the names in it.
    """

    framework: str
    forms: Sequence[Form]
    path: Callable[[Form, int, int, int, int], str]
    split: Callable[[str], Address | None]
    model: str
    join: Callable[[Address], str] = joined
    readers: Mapping[str, Callable[[str], Mapping[str, tuple[str, Any]]]] = field(default_factory=dict)
    own: Mapping[str, Layout] = field(default_factory=dict)

    def form(self, cell: str, reset: str | None) -> Form | None:
        """The form that is written for a cell, or None where the framework has none."""
        return next((form for form in self.forms if (form.cell, form.reset) == (cell, reset)), None)


@cache
def layouts() -> Mapping[str, Layout]:
    """The published layouts by name; loading them imports no framework.

    Raises ``ArgumentError`` where one of them fails to load, or where none is published.
    """
    found: dict[str, Layout] = {}
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda point: point.name):
        try:
            found[point.name] = point.load()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ArgumentError(f"layout {point.name}: fails to load ({reason})") from error
    if not found:
        raise ArgumentError("layouts: found none; critinit's own come with its installed distribution")
    return MappingProxyType(found)


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sorting key under which layer_2 comes before layer_10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)|/", name) if part]


class Stack(NamedTuple):
    """What a network is to those above and below: its layers, the width that it reads and the width that it gives."""

    layers: int
    reads: int
    gives: int


def stacks(networks: Sequence[Stack], layers: int, *, ordered: bool = False) -> list[list[int]] | None:
    """Which networks take a spec's layers together; None where that is not clear.

    Each alone where each has all the layers, all together where their layers add up: then in the order given, or,
    unless that is ``ordered``, in one in which each reads the width that the one before gives, where there is such.
    """
    if all(network.layers == layers for network in networks):
        return [[index] for index in range(len(networks))]
    if sum(network.layers for network in networks) != layers:
        return None
    given = list(range(len(networks)))
    return [given if ordered else _chain(networks) or given]


def _chain(networks: Sequence[Stack]) -> list[int] | None:
    """The first order, of those in which widths agree, in the order of the indices; found by depth-first search."""
    dead: set[tuple[int, frozenset[int]]] = set()

    def rest(last: int, left: frozenset[int]) -> list[int] | None:
        if not left or (last, left) in dead:
            return None if left else []
        for index in sorted(left):
            if networks[last].gives == networks[index].reads:
                found = rest(index, left - {index})
                if found is not None:
                    return [index, *found]
        dead.add((last, left))
        return None

    every = frozenset(range(len(networks)))
    for first in sorted(every):
        found = rest(first, every - {first})
        if found is not None:
            return [first, *found]
    return None
