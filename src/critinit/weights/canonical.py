"""critinit's own layout: every gate's recurrent, input and bias as ``critinit.tensors.sampling`` draws them.

``layers.0.1.update.recurrent`` is (layer 0, direction 1): what stands in
``draw(...).layers[0][1].gates["update"].recurrent``; ``layers.0.1.projection`` is that of a cell which has one.  It serves every cell, also those of no framework.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, overload

from critinit.cells import Cell, every
from critinit.tensors.blocks import whole
from critinit.tensors.layouts import Address, Form, Layout, Sizes, Stored
from critinit.tensors.sampling import Part

__all__ = ["LAYOUT"]

_PARTS: tuple[Part, ...] = ("recurrent", "input", "bias")
_PROJECTION = "projection"
_NAME = re.compile(
    rf"(?:(?P<module>.+)[./])?layers[./](?P<layer>\d+)[./](?P<direction>[01])[./]"
    rf"(?:(?P<gate>\w+)[./](?P<part>{'|'.join(_PARTS)})|(?P<projection>{_PROJECTION}))"
)


@cache
def _form(cell: Cell) -> Form:
    names = tuple(f"{gate}.{part}" for gate in cell.gates for part in _PARTS)
    names += (_PROJECTION,) * cell.projects

    def tensors(sizes: Sizes) -> tuple[Stored, ...]:
        shapes: Mapping[Part, tuple[int, ...]] = {
            "recurrent": (sizes.hidden, sizes.projection or sizes.hidden),
            "input": (sizes.hidden, sizes.input),
            "bias": (sizes.hidden,),
        }
        stored = [Stored(f"{gate}.{part}", shapes[part], whole(gate, part)) for gate in cell.gates for part in _PARTS]
        if sizes.projection is not None:
            stored.append(Stored(_PROJECTION, (sizes.projection, sizes.hidden), whole("", "projection")))
        return tuple(stored)

    def sizes(shapes: Mapping[str, tuple[int, ...]]) -> Sizes | None:
        hidden, width = shapes[f"{cell.gates[0]}.input"]
        return Sizes(width, hidden, shapes[_PROJECTION][0] if cell.projects else None)

    return Form(f"canonical {cell.name}", cell.name, cell.reset, names, tensors, sizes)


class _Forms(Sequence[Form]):
    """The forms of all known cells, a user's too, at the time they are asked for."""

    def __len__(self) -> int:
        return len(every())

    @overload
    def __getitem__(self, index: int) -> Form: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Form]: ...
    def __getitem__(self, index: Any) -> Any:
        return tuple(map(_form, every()))[index]


def _split(name: str) -> Address | None:
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    place = int(match["layer"]), int(match["direction"])
    return Address(match["module"] or "", *place, match["projection"] or f"{match['gate']}.{match['part']}")


def _join(address: Address) -> str:
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
