"""Flax Linen: SimpleCell, GRUCell, LSTMCell and OptimizedLSTMCell; a kernel (fan_in, H) for every gate.

    r, z, n of the GRU are reset, update, candidate
    i, f, g, o of the LSTM are input, forget, cell, output; its biases stand on the recurrent side

The two LSTM cells have the same tree.  Names are the flattened path of the tree, joined with "/".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from critinit.tensors.blocks import Block, whole_tensor, zeros
from critinit.tensors.layouts import Form, Layout, Sizes, Stored, path_splitter

__all__ = ["LAYOUT", "TABLE", "Child"]

Child = Mapping[str, tuple[Block, ...]]
"""The blocks of a child module's kernel and of its bias."""


def _child(gate: str, part: Any, bias: tuple[Block, ...] | None = None) -> Child:
    kernel = {"kernel": whole_tensor(gate, part, transposed=True)}
    return kernel if bias is None else {**kernel, "bias": bias}


TABLE: Mapping[str, Mapping[str, Child]] = {
    "rnn": {
        "i": _child("hidden", "input", whole_tensor("hidden", "bias")),
        "h": _child("hidden", "recurrent"),
    },
    "gru": {
        "ir": _child("reset", "input", whole_tensor("reset", "bias")),
        "iz": _child("update", "input", whole_tensor("update", "bias")),
        "in": _child("candidate", "input", whole_tensor("candidate", "bias")),
        "hr": _child("reset", "recurrent"),
        "hz": _child("update", "recurrent"),
        "hn": _child("candidate", "recurrent", zeros(inside="candidate")),  # no part of the effective bias
    },
    "lstm": {
        "ii": _child("input", "input"),
        "if": _child("forget", "input"),
        "ig": _child("cell", "input"),
        "io": _child("output", "input"),
        "hi": _child("input", "recurrent", whole_tensor("input", "bias")),
        "hf": _child("forget", "recurrent", whole_tensor("forget", "bias")),
        "hg": _child("cell", "recurrent", whole_tensor("cell", "bias")),
        "ho": _child("output", "recurrent", whole_tensor("output", "bias")),
    },
}
"""The children of each cell, by name."""
_CLASSES = {"rnn": "SimpleCell", "gru": "GRUCell", "lstm": "LSTMCell"}


def _form(cell: str) -> Form:
    entries = {f"{child}/{name}": blocks for child, parts in TABLE[cell].items() for name, blocks in parts.items()}

    def tensors(sizes: Sizes) -> tuple[Stored, ...]:
        def shape(blocks: tuple[Block, ...]) -> tuple[int, ...]:
            if not blocks[0].transposed:
                return (sizes.hidden,)
            return (sizes.input if blocks[0].part == "input" else sizes.hidden, sizes.hidden)

        return tuple(Stored(name, shape(b), b, optional=name.endswith("bias")) for name, b in entries.items())

    def sizes(shapes: Mapping[str, tuple[int, ...]]) -> Sizes | None:
        first = next(name for name, blocks in entries.items() if blocks[0].part == "input")
        return Sizes(*shapes[first])

    return Form(_CLASSES[cell], cell, tuple(entries), tensors, sizes)


def _path(form: Form, layers: int, directions: int, layer: int, direction: int) -> str:
    stack = f"layers_{layer}/" if layers > 1 else ""
    way = f"{('forward', 'backward')[direction]}_rnn/" if directions == 2 else ""
    return f"params/{stack}{way}cell"


_FORMS = tuple(map(_form, TABLE))
LAYOUT = Layout(
    framework="linen",
    forms=_FORMS,
    path=_path,
    split=path_splitter(_FORMS),
    model="nn.RNN(cell), nn.Bidirectional(nn.RNN(cell), nn.RNN(cell)) for two directions, nn.Sequential of them "
    "for several layers",
)
"""Linen's layout."""
