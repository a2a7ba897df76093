"""NNX's rows."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.adapters.frameworks import Built, Row

CELLS = {
    "": {
        "rnn": nnx.SimpleCell,
        "relu_rnn": partial(nnx.SimpleCell, activation_fn=jax.nn.relu),
        "gru": nnx.GRUCell,
        "lstm": nnx.OptimizedLSTMCell,
    },
    "plain": {"lstm": nnx.LSTMCell},
}
ROWS = [
    Row("nnx", cell, layers, directions, kind=kind)
    for kind, cells in CELLS.items()
    for cell in cells
    for layers in (1, 2)
    for directions in (1, 2)
]


@jax.disable_jit()
def build(row, hidden, size):
    rngs = nnx.Rngs(0)

    def layer(inputs):
        return nnx.RNN(CELLS[row.kind][row.cell](inputs, hidden, rngs=rngs))

    def one(inputs):
        return nnx.Bidirectional(layer(inputs), layer(inputs)) if row.directions == 2 else layer(inputs)

    widths = [size, *[hidden * row.directions] * (row.layers - 1)]
    model = one(size) if row.layers == 1 else nnx.Sequential(*map(one, widths))
    return Built(model, row)


@jax.disable_jit()
def run(built, model, x):
    return model(jnp.asarray(x.swapaxes(0, 1), jnp.float32)).swapaxes(0, 1)


def tensors(built, model):
    found = ((path, node) for path, node in nnx.iter_graph(model) if isinstance(node, nnx.Param))
    return {"/".join(map(str, path)): np.asarray(node.get_value()) for path, node in found}
