"""Keras 3: SimpleRNN, LSTM, GRU, their cells and ConvLSTM; kernels (fan_in, H), gates side by side, on every backend.

    i, f, c, o of the LSTM are input, forget, cell, output;  z, r, h of the GRU are update, reset, candidate

Keras' GRU is critinit's ``gru``, with ``reset_after=False`` it is ``gru_reset_before``.  The bias of ``gru`` has two
rows that are added: the first takes the effective bias, the second, with b_hn inside r∘(·), is 0.  ConvLSTM1D to 3D
are critinit's ``lstm``, their kernels (*window, channels, 4·filters), whatever the ``data_format``.  Files name a
variable by its path (gru/gru_cell/kernel); Keras' own by its number (gru/cell/vars/0).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace

from critinit.tensors.blocks import Block, Shape, fused, second_bias
from critinit.tensors.convolutions import convolution
from critinit.tensors.layouts import Address, Form, Hints, Layout, Sizes, Stored, path_splitter

__all__ = ["GATES", "LAYOUT", "TENSORS", "blocks", "shapes"]

GATES = {
    "rnn": ("hidden",),
    "gru": ("update", "reset", "candidate"),
    "gru_reset_before": ("update", "reset", "candidate"),
    "lstm": ("input", "forget", "cell", "output"),
    "relu_rnn": ("hidden",),
}
"""The gates of each cell, in their order along the last axis."""
TENSORS = ("kernel", "recurrent_kernel", "bias")
"""The names of a cell's variables, in the order of their numbers in Keras' own files."""
_CLASSES = {
    "rnn": "SimpleRNN",
    "relu_rnn": "SimpleRNN with activation='relu'",
    "gru": "GRU",
    "gru_reset_before": "GRU",
    "lstm": "LSTM",
}
_SNAKE = {"rnn": "simple_rnn", "relu_rnn": "simple_rnn", "gru": "gru", "gru_reset_before": "gru", "lstm": "lstm"}
_WAYS = ("forward", "backward")
_NUMBERED = re.compile(r"(?:(?P<module>.+)/)?vars/(?P<number>[012])")


def blocks(name: str, cell: str, hidden: int, shape: Shape = ()) -> tuple[Block, ...]:
    """Return the blocks of one variable.

    Args:
        name: The variable's name, one of ``TENSORS``.
        cell: The cell.
        hidden: The number of units.
        shape: The variable's shape, which of a convolution's kernel says how it is read.
    """
    gates = GATES[cell]
    if name == "kernel":
        return convolution(gates, "input", tuple(shape[:-2]), shape[-2] if shape else 1, hidden)
    if name == "recurrent_kernel":
        return convolution(gates, "recurrent", tuple(shape[:-2]), hidden, hidden)
    if cell == "gru":
        first = fused(gates, "bias", 1, hidden, within={0: 0})
        return (*first, *second_bias(gates, 1, hidden, inside="candidate", within={0: 1}))
    return fused(gates, "bias", 0, hidden)


def shapes(cell: str, sizes: Sizes) -> dict[str, Shape]:
    """Return the shapes of a cell's variables.

    Args:
        cell: The cell.
        sizes: Its sizes.
    """
    columns = len(GATES[cell]) * sizes.hidden
    return {
        "kernel": (*sizes.window, sizes.input, columns),
        "recurrent_kernel": (*sizes.window, sizes.hidden, columns),
        "bias": (2, columns) if cell == "gru" else (columns,),
    }


def _form(name: str, cell: str, rank: int = 0) -> Form:
    def tensors(sizes: Sizes) -> tuple[Stored, ...]:
        return tuple(
            Stored(tensor, shape, blocks(tensor, cell, sizes.hidden, shape), optional=tensor == "bias")
            for tensor, shape in shapes(cell, sizes).items()
        )

    def sizes(found: Mapping[str, Shape]) -> Sizes | None:
        *window, channels, _ = found["kernel"]
        return Sizes(channels, found["recurrent_kernel"][-2], window=tuple(window)) if len(window) == rank else None

    return Form(name, cell, TENSORS, tensors, sizes, rank=rank)


_FORMS = (
    *(_form(_CLASSES[cell], cell) for cell in GATES),
    *(_form(f"ConvLSTM{rank}D", "lstm", rank) for rank in (1, 2, 3)),
)
_by_path = path_splitter(_FORMS)


def _split(name: str) -> Address | None:
    match = _NUMBERED.fullmatch(name)
    if match is None:
        return _by_path(name)
    return Address(match["module"] or "", 0, 0, TENSORS[int(match["number"])])


def _snake(form: Form) -> str:
    """What Keras calls a layer of this form."""
    return f"conv_lstm{form.rank}d" if form.rank else _SNAKE[form.cell]


def _path(form: Form, layers: int, directions: int, layer: int, direction: int) -> str:
    name, number = _snake(form), f"_{layer}" if layer else ""
    if directions == 1:
        return f"sequential/{name}{number}/{name}_cell"
    return f"sequential/bidirectional{number}/{_WAYS[direction]}_{name}{number}/{name}_cell"


def _numbered_path(form: Form, layers: int, directions: int, layer: int, direction: int) -> str:
    number = f"_{layer}" if layer else ""
    if directions == 1:
        return f"layers/{_snake(form)}{number}/cell"
    return f"layers/bidirectional{number}/{_WAYS[direction]}_layer/cell"


def _numbered(address: Address) -> str:
    return f"{address.module}/vars/{TENSORS.index(address.tensor)}"


def _glorot(hidden: int, fan_in: int, columns: int) -> float:
    return math.sqrt(6.0 / (fan_in + columns))


_BY_PATH = Layout(
    framework="keras",
    forms=_FORMS,
    path=_path,
    split=_split,
    model="keras.Sequential of GRU (LSTM, SimpleRNN, ConvLSTM1D to ConvLSTM3D) layers, each in Bidirectional where "
    "there are two directions",
    unread={
        "saved_model.pb": (
            "a SavedModel, which holds a program",
            "model.save_weights('model.weights.h5') writes its weights",
        )
    },
    hints=Hints(
        default_input="Glorot uniform on the fused kernel, the default of Keras",
        default_bound=_glorot,
    ),
)
LAYOUT = replace(_BY_PATH, formats={".weights.h5": replace(_BY_PATH, path=_numbered_path, join=_numbered)})
"""Keras' layout."""
