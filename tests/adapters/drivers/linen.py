"""Linen's rows; a model is its tree of parameters."""

from __future__ import annotations

from functools import cache, partial

import jax
import jax.numpy as jnp
from critinit_adapters.shared.jax_arrays import path_name
from flax import linen as nn

from tests.adapters.frameworks import Built, Row

CELLS = {
    "": {
        "rnn": nn.SimpleCell,
        "relu_rnn": partial(nn.SimpleCell, activation_fn=nn.relu),
        "gru": nn.GRUCell,
        "ugrnn": partial(nn.MGUCell, reset_gate=False),
        "lstm": nn.OptimizedLSTMCell,
    },
    "plain": {"lstm": nn.LSTMCell},
}
ROWS = [
    Row("linen", cell, layers, directions, kind=kind)
    for kind, cells in CELLS.items()
    for cell in cells
    for layers in (1, 2)
    for directions in (1, 2)
]


@cache  # trees never change, so one serves all
@jax.disable_jit()
def build(row, hidden, size):
    def layer():
        return nn.RNN(CELLS[row.kind][row.cell](hidden))

    def one():
        return nn.Bidirectional(layer(), layer()) if row.directions == 2 else layer()

    stack = nn.Sequential([one() for _ in range(row.layers)])
    params = stack.init(jax.random.key(0), jnp.zeros((1, 2, size)))
    return Built(params, row, {}, stack)


@jax.disable_jit()
def run(built, model, x):
    out = built.definition.apply(model, jnp.asarray(x.swapaxes(0, 1), jnp.float32))
    return out.swapaxes(0, 1)


def tensors(built, model):
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(model)}
