"""critinit's own layout: every gate's kernels and bias as ``critinit.tensors.sampling`` draws them.

``layers.0.1.update.recurrent`` is the tensor of layer 0 in direction 1: what stands in
``draw(...).layers[0][1].gates["update"].recurrent``.  ``layers.0.1.projection`` is that of a cell which has one, and
``layers.0.1.memory_gain`` of a normalized one.  The layout serves every cell, also those of no framework.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, overload

from critinit.cells import CELLS, Cell
from critinit.spec.model import GAINS
from critinit.tensors.blocks import whole_tensor
from critinit.tensors.layouts import Address, Form, Layout, Sizes, Stored
from critinit.tensors.sampling import Part

__all__ = ["LAYOUT"]

_PARTS: tuple[Part, ...] = ("recurrent", "input", "bias")
_PROJECTION, _MEMORY_GAIN = "projection", "memory_gain"
_NAME = re.compile(
    rf"(?:(?P<module>.+)[./])?layers[./](?P<layer>\d+)[./](?P<direction>[01])[./]"
    rf"(?:(?P<gate>\w+)[./](?P<part>{'|'.join((*_PARTS, *GAINS))})|(?P<whole>{_PROJECTION}|{_MEMORY_GAIN}))"
)


@cache
def _form(cell: Cell) -> Form:
    """The one form of a cell."""
    parts = (*_PARTS, *(GAINS if cell.normalized else ()))
    places = [(gate, part) for gate in cell.gates for part in parts]
    reads_normalized = cell.normalized and cell.has_readout
    names = tuple(f"{gate}.{part}" for gate, part in places)
    names += (_PROJECTION,) * cell.projects + (_MEMORY_GAIN,) * reads_normalized

    def tensors(sizes: Sizes) -> tuple[Stored, ...]:
        shapes: Mapping[Part, tuple[int, ...]] = {
            "recurrent": (sizes.hidden, sizes.projection or sizes.hidden),
            "input": (sizes.hidden, sizes.input),
        }
        own = (sizes.hidden,)
        stored = [Stored(f"{gate}.{part}", shapes.get(part, own), whole_tensor(gate, part)) for gate, part in places]
        if reads_normalized:
            stored.append(Stored(_MEMORY_GAIN, own, whole_tensor("", "memory_gain"), optional=True))
        if sizes.projection is not None:
            stored.append(Stored(_PROJECTION, (sizes.projection, sizes.hidden), whole_tensor("", "projection")))
        return tuple(stored)

    def sizes(shapes: Mapping[str, tuple[int, ...]]) -> Sizes | None:
        hidden, width = shapes[f"{cell.gates[0]}.input"]
        return Sizes(width, hidden, shapes[_PROJECTION][0] if cell.projects else None)

    return Form(f"canonical {cell.name}", cell.name, names, tensors, sizes)


class _Forms(Sequence[Form]):
    """The forms of all known cells, a user's too, at the time they are asked for."""

    def __iter__(self) -> Iterator[Form]:
        return map(_form, CELLS.loaded().values())

    def __len__(self) -> int:
        return len(CELLS.loaded())

    @overload
    def __getitem__(self, index: int) -> Form: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Form]: ...
    def __getitem__(self, index: Any) -> Any:
        return tuple(self)[index]


def _split(name: str) -> Address | None:
    """The address that a tensor's name says, or None."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    place = int(match["layer"]), int(match["direction"])
    return Address(match["module"] or "", *place, match["whole"] or f"{match['gate']}.{match['part']}")


def _join(address: Address) -> str:
    """The tensor's name."""
    place = f"layers.{address.layer}.{address.direction}.{address.tensor}"
    return ".".join(filter(None, (address.module, place)))


LAYOUT = Layout(
    framework="canonical",
    forms=_Forms(),
    path=lambda form, layers, directions, layer, direction: "",
    split=_split,
    join=_join,
    model="critinit's own form: layers.LAYER.DIRECTION.GATE.PART",
)
