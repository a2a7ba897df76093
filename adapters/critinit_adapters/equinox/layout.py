"""Equinox: GRUCell and LSTMCell; gates stacked along axis 0, each (H, fan_in), a single bias.

    the GRU's rows are reset, update, candidate, and ``bias_n`` sits inside r∘(·)
    i, f, g, o of the LSTM are input, forget, cell, output

Names are the flattened path of the tree, joined with "/".
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from critinit.tensors.blocks import Block, fused, zeros
from critinit.tensors.layouts import Form, Layout, Sizes, Stored, path_splitter
from critinit_adapters.shared.defaults import UNIFORM_BY_UNITS

__all__ = ["GATES", "LAYOUT", "blocks", "names"]

GATES = {"gru": ("reset", "update", "candidate"), "lstm": ("input", "forget", "cell", "output")}
"""The gates of each cell, in the order in which they are stacked."""
_PARTS: Mapping[str, Literal["input", "recurrent", "bias"]] = {
    "weight_ih": "input",
    "weight_hh": "recurrent",
    "bias": "bias",
}


def names(cell: str) -> tuple[str, ...]:
    """Return the names of a cell's tensors."""
    return (*_PARTS, *["bias_n"] * (cell == "gru"))


@lru_cache
def blocks(name: str, cell: str, hidden: int) -> tuple[Block, ...]:
    """Return the blocks of one tensor.

    Args:
        name: The tensor's name, one of ``names(cell)``.
        cell: The cell.
        hidden: The number of units.
    """
    if name == "bias_n":  # inside r∘(·): no part of the effective bias
        return zeros(inside="candidate")
    return fused(GATES[cell], _PARTS[name], 0, hidden)


def _form(cell: str) -> Form:
    def tensors(sizes: Sizes) -> tuple[Stored, ...]:
        rows = len(GATES[cell]) * sizes.hidden
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, sizes.input),
            "weight_hh": (rows, sizes.hidden),
            "bias": (rows,),
            "bias_n": (sizes.hidden,),
        }
        return tuple(Stored(n, shapes[n], blocks(n, cell, sizes.hidden), optional="bias" in n) for n in names(cell))

    def sizes(shapes: Mapping[str, tuple[int, ...]]) -> Sizes | None:
        return Sizes(shapes["weight_ih"][1], shapes["weight_hh"][1])

    return Form(f"{cell.upper()}Cell", cell, names(cell), tensors, sizes)


def _path(form: Form, layers: int, directions: int, layer: int, direction: int) -> str:
    stack = [str(layer)] if layers > 1 else []
    return "/".join([*stack, *([("forward", "backward")[direction]] if directions == 2 else [])])


_FORMS = tuple(map(_form, GATES))
LAYOUT = Layout(
    framework="equinox",
    forms=_FORMS,
    path=_path,
    split=path_splitter(_FORMS),
    model="a cell; {'forward': cell, 'backward': cell} for two directions; a list of these for several layers",
    hints=UNIFORM_BY_UNITS,
)
"""Equinox' layout."""
