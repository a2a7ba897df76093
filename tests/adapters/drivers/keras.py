"""Keras' rows, for whichever backend was chosen when Keras was imported."""

from __future__ import annotations

from contextlib import nullcontext

import keras
import numpy as np
from keras import layers, ops

from tests.adapters.frameworks import Built, Row


def _relu(kind):
    return lambda units, **more: kind(units, activation="relu", **more)


GRU, GRU_CELL = layers.GRU, layers.GRUCell
LAYERS = {
    "rnn": layers.SimpleRNN,
    "relu_rnn": _relu(layers.SimpleRNN),
    "gru": GRU,
    "gru_reset_before": GRU,
    "lstm": layers.LSTM,
}
CELLS = {
    "rnn": layers.SimpleRNNCell,
    "relu_rnn": _relu(layers.SimpleRNNCell),
    "gru": GRU_CELL,
    "gru_reset_before": GRU_CELL,
    "lstm": layers.LSTMCell,
}
RESET_AFTER = {"gru": True, "gru_reset_before": False}


def without_compilation():
    """A context in which Keras' JAX backend compiles no scan; the other backends compile none anyway."""
    if keras.backend.backend() != "jax":
        return nullcontext()
    import jax

    return jax.disable_jit()


ROWS = (
    [
        Row("keras", cell, count, directions, bias)
        for cell in CELLS
        for count, directions, bias in ((1, 1, True), (1, 1, False), (2, 2, True), (1, 2, False))
    ]
    + [Row("keras", cell, 3, kind="stacked") for cell in CELLS]
    + [Row("keras", cell, kind="cell") for cell in CELLS]
)


def build(row, hidden, size):
    changes = {"use_bias": row.bias, **({"reset_after": RESET_AFTER[row.cell]} if row.cell in RESET_AFTER else {})}
    if row.kind == "cell":
        cell = CELLS[row.cell](hidden, **changes)
        cell.build((None, size))
        return Built(cell, row)

    def one():
        if row.kind == "stacked":
            cells = [CELLS[row.cell](hidden, **changes) for _ in range(row.layers)]
            return layers.RNN(cells, return_sequences=True)
        layer = LAYERS[row.cell](hidden, return_sequences=True, **changes)
        return layers.Bidirectional(layer) if row.directions == 2 else layer

    count = 1 if row.kind == "stacked" else row.layers
    return Built(keras.Sequential([keras.Input((None, size)), *(one() for _ in range(count))]), row)


def run(built, model, x):
    with without_compilation():
        return outputs(built, model, x)


def outputs(built, model, x):
    x = ops.convert_to_tensor(np.asarray(x, np.float32))
    if built.row.kind == "cell":
        states, seen = [ops.zeros((x.shape[1], size)) for size in _sizes(model)], []
        for step in x:
            out, states = model(step, states)
            seen.append(out)
        return host(ops.stack(seen))
    return host(model(ops.swapaxes(x, 0, 1))).swapaxes(0, 1)


def _sizes(cell):
    return cell.state_size if isinstance(cell.state_size, list | tuple) else [cell.state_size]


def tensors(built, model):
    return {variable.path: host(variable.value) for variable in model.variables}


def host(value):
    """A backend's tensor as an array."""
    if hasattr(value, "detach"):
        value = value.detach()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)
