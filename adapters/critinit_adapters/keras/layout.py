"""Keras 3: SimpleRNN, LSTM, GRU and their cells; kernels (fan_in, H), gates side by side, on every backend.

    i, f, c, o of the LSTM are input, forget, cell, output;  z, r, h of the GRU are update, reset, candidate

With ``reset_after`` the bias has two rows that are added: the first takes the effective bias, the second, with b_hn
inside r∘(·), is 0.  Files name a variable by its path (gru/gru_cell/kernel); Keras' own by its number (gru/cell/vars/0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from critinit.tensors.blocks import Block, fused, second
from critinit.tensors.layouts import Address, Form, Layout, Sizes, Stored, below

__all__ = ["GATES", "LAYOUT", "TENSORS", "blocks"]

# the order of the gates along the last axis
GATES = {
    "rnn": ("hidden",),
    "gru": ("update", "reset", "candidate"),
    "lstm": ("input", "forget", "cell", "output"),
}
TENSORS = ("kernel", "recurrent_kernel", "bias")
_CLASSES = {"rnn": "SimpleRNN", "gru": "GRU", "lstm": "LSTM"}
_SNAKE = {"rnn": "simple_rnn", "gru": "gru", "lstm": "lstm"}
_WAYS = ("forward", "backward")
_NUMBERED = re.compile(r"(?:(?P<module>.+)/)?vars/(?P<number>[012])")


def blocks(name: str, cell: str, hidden: int, after: bool) -> tuple[Block, ...]:
    """The blocks of one variable; ``after``: the reset gate acts after the recurrent kernel."""
    gates = GATES[cell]
    if name == "kernel":
        return fused(gates, "input", 1, hidden, transposed=True)
    if name == "recurrent_kernel":
        return fused(gates, "recurrent", 1, hidden, transposed=True)
    if after:
        first = fused(gates, "bias", 1, hidden, within={0: 0})
        return (*first, *second(gates, 1, hidden, inside="candidate", within={0: 1}))
    return fused(gates, "bias", 0, hidden)


def _form(cell: str, reset: str | None) -> Form:
    after = reset == "after"

    def tensors(sizes: Sizes) -> tuple[Stored, ...]:
        columns = len(GATES[cell]) * sizes.hidden
        shapes: dict[str, tuple[int, ...]] = {
            "kernel": (sizes.input, columns),
            "recurrent_kernel": (sizes.hidden, columns),
            "bias": (2, columns) if after else (columns,),
        }
        return tuple(
            Stored(name, shape, blocks(name, cell, sizes.hidden, after), optional=name == "bias")
            for name, shape in shapes.items()
        )

    def sizes(shapes: Mapping[str, tuple[int, ...]]) -> Sizes | None:
        return Sizes(shapes["kernel"][0], shapes["recurrent_kernel"][0])

    return Form(_CLASSES[cell], cell, reset, TENSORS, tensors, sizes)


_FORMS = (_form("rnn", None), _form("gru", "after"), _form("gru", "before"), _form("lstm", None))
_by_path = below(_FORMS)


def _split(name: str) -> Address | None:
    match = _NUMBERED.fullmatch(name)
    if match is None:
        return _by_path(name)
    return Address(match["module"] or "", 0, 0, TENSORS[int(match["number"])])


def _path(form: Form, layers: int, directions: int, layer: int, direction: int) -> str:
    name, number = _SNAKE[form.cell], f"_{layer}" if layer else ""
    if directions == 1:
        return f"sequential/{name}{number}/{name}_cell"
    return f"sequential/bidirectional{number}/{_WAYS[direction]}_{name}{number}/{name}_cell"


def _numbered_path(form: Form, layers: int, directions: int, layer: int, direction: int) -> str:
    number = f"_{layer}" if layer else ""
    if directions == 1:
        return f"layers/{_SNAKE[form.cell]}{number}/cell"
    return f"layers/bidirectional{number}/{_WAYS[direction]}_layer/cell"


def _numbered(address: Address) -> str:
    return f"{address.module}/vars/{TENSORS.index(address.tensor)}"


_BY_PATH = Layout(
    framework="keras",
    forms=_FORMS,
    path=_path,
    split=_split,
    model="keras.Sequential of GRU (LSTM, SimpleRNN) layers, each in Bidirectional where there are two directions",
)
LAYOUT = replace(_BY_PATH, own={".weights.h5": replace(_BY_PATH, path=_numbered_path, join=_numbered)})
