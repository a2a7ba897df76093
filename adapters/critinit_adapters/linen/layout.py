"""Flax Linen: SimpleCell, GRUCell, MGUCell, LSTMCell and OptimizedLSTMCell; a kernel (fan_in, H) for every gate.

    r, z, n of the GRU are reset, update, candidate
    f, n of the MGUCell without its reset gate, which is critinit's ugrnn, are update, candidate
    i, f, g, o of the LSTM are input, forget, cell, output; its biases stand on the recurrent side

The two LSTM cells have the same tree.  ConvLSTMCell is critinit's lstm too: kernels (*window, channels, 4·features) of
the input and of the state, gates in the order i, g, f, o, each with a bias; it adds 1 to f by itself.

Names are the flattened path of the tree, joined with "/".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from critinit.errors import MissingExtraError
from critinit.tensors.blocks import Block, Shape, fused, second_bias, whole_tensor, zeros
from critinit.tensors.convolutions import convolution
from critinit.tensors.layouts import Form, Layout, Sizes, Stored, path_splitter
from critinit.tensors.sampling import Part

__all__ = ["CLASSES", "LAYOUT", "TABLE", "Child", "convolutional", "sizes_of_convolution"]

Child = Mapping[str, tuple[Block, ...]]
"""The blocks of a child module's kernel and of its bias."""


def _child(gate: str, part: Any, bias: tuple[Block, ...] | None = None) -> Child:
    kernel = {"kernel": whole_tensor(gate, part, transposed=True)}
    return kernel if bias is None else {**kernel, "bias": bias}


_SIMPLE: Mapping[str, Child] = {
    "i": _child("hidden", "input", whole_tensor("hidden", "bias")),
    "h": _child("hidden", "recurrent"),
}
TABLE: Mapping[str, Mapping[str, Child]] = {
    "rnn": _SIMPLE,
    "gru": {
        "ir": _child("reset", "input", whole_tensor("reset", "bias")),
        "iz": _child("update", "input", whole_tensor("update", "bias")),
        "in": _child("candidate", "input", whole_tensor("candidate", "bias")),
        "hr": _child("reset", "recurrent"),
        "hz": _child("update", "recurrent"),
        "hn": _child("candidate", "recurrent", zeros(inside="candidate")),  # no part of the effective bias
    },
    "ugrnn": {
        "if": _child("update", "input", whole_tensor("update", "bias")),
        "in": _child("candidate", "input", whole_tensor("candidate", "bias")),
        "hf": _child("update", "recurrent"),
        "hn": _child("candidate", "recurrent"),
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
    "relu_rnn": _SIMPLE,
}
"""The children of each cell, by name."""
CLASSES = {
    "rnn": ("SimpleCell",),
    "relu_rnn": ("SimpleCell",),
    "gru": ("GRUCell",),
    "ugrnn": ("MGUCell",),
    "lstm": ("LSTMCell", "OptimizedLSTMCell", "ConvLSTMCell"),
}
"""The classes of each cell, the first of which names its form."""
_NAMES = {"relu_rnn": "SimpleCell with activation_fn=relu"}
"""What a form is called where its class alone does not tell."""


_CONVOLVED = ("input", "cell", "forget", "output")
"""The gates of ConvLSTMCell in their order along the last axis."""


def convolutional(sizes: Sizes) -> tuple[Stored, ...]:
    """Return the tensors of a ConvLSTMCell of the given sizes."""
    hidden, columns = sizes.hidden, len(_CONVOLVED) * sizes.hidden
    stored: list[Stored] = []
    sides: tuple[tuple[str, Part, int], ...] = (("ih", "input", sizes.input), ("hh", "recurrent", hidden))
    for child, part, channels in sides:
        kernel = convolution(_CONVOLVED, part, sizes.window, channels, hidden)
        stored.append(Stored(f"{child}/kernel", (*sizes.window, channels, columns), kernel))
    bias = fused(_CONVOLVED, "bias", 0, hidden, offset={"forget": -1.0})
    return (
        *stored,
        Stored("ih/bias", (columns,), bias),
        Stored("hh/bias", (columns,), second_bias(_CONVOLVED, 0, hidden)),
    )


def sizes_of_convolution(shapes: Mapping[str, Shape]) -> Sizes | None:
    """Return the sizes of a ConvLSTMCell from the shapes of its tensors, None where its kernels convolve nothing."""
    *window, channels, _ = shapes["ih/kernel"]
    return Sizes(channels, shapes["hh/kernel"][-2], window=tuple(window)) if window else None


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
        inputs, hidden = shapes[first]
        return Sizes(inputs, hidden)

    return Form(_NAMES.get(cell, CLASSES[cell][0]), cell, tuple(entries), tensors, sizes)


def _convolutional_form(rank: int) -> Form:
    def sizes(shapes: Mapping[str, Shape]) -> Sizes | None:
        return sizes_of_convolution(shapes) if len(shapes["ih/kernel"]) == rank + 2 else None

    names = ("ih/kernel", "ih/bias", "hh/kernel", "hh/bias")
    return Form("ConvLSTMCell", "lstm", names, convolutional, sizes, rank=rank)


def _path(form: Form, layers: int, directions: int, layer: int, direction: int) -> str:
    stack = f"layers_{layer}/" if layers > 1 else ""
    way = f"{('forward', 'backward')[direction]}_rnn/" if directions == 2 else ""
    return f"params/{stack}{way}cell"


def _flat(tree: Any) -> Mapping[str, tuple[str, Any]]:
    """Type and numbers of the arrays in nested mappings, by the keys that lead to them, joined with "/"."""
    found: dict[str, tuple[str, Any]] = {}

    def collect(value: Any, name: str) -> None:
        if isinstance(value, Mapping):
            for key, below in value.items():
                if name or not str(key).startswith("opt"):  # states of optimizers are called as weights are
                    collect(below, f"{name}/{key}" if name else str(key))
        elif hasattr(value, "dtype") and hasattr(value, "shape"):
            dtype = str(value.dtype)
            found[name] = dtype, np.asarray(value, dtype="float32" if dtype == "bfloat16" else None)

    collect(tree, "")
    return found


def _msgpack(path: str) -> Mapping[str, tuple[str, Any]]:
    """The arrays of what ``flax.serialization`` wrote."""
    try:
        from flax import serialization
    except ImportError:
        raise MissingExtraError("flax, which alone reads this file,", "jax") from None
    return _flat(serialization.msgpack_restore(Path(path).read_bytes()))


def _orbax(path: str) -> Mapping[str, tuple[str, Any]]:
    """The arrays of a folder that Orbax wrote."""
    try:
        from orbax.checkpoint import PyTreeCheckpointer
    except ImportError:
        raise MissingExtraError("orbax-checkpoint, which alone reads this folder and comes with flax,", "jax") from None
    return _flat(PyTreeCheckpointer().restore(str(Path(path).absolute())))


# a mapping of up to 15 keys, or of more
_MSGPACK = (*(bytes([0x80 + count]) for count in range(1, 16)), b"\xde", b"\xdf")
_FORMS = (
    *map(_form, TABLE),
    *map(_convolutional_form, (1, 2, 3)),
)
LAYOUT = Layout(
    framework="linen",
    forms=_FORMS,
    path=_path,
    split=path_splitter(_FORMS),
    model="nn.RNN(cell), nn.Bidirectional(nn.RNN(cell), nn.RNN(cell)) for two directions, nn.Sequential of them "
    "for several layers",
    readers={**dict.fromkeys(_MSGPACK, _msgpack), "_METADATA": _orbax},
)
"""Linen's layout."""
