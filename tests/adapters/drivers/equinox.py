"""Equinox's rows; a model is a list of cells, or of (forward, backward) pairs of them."""

from __future__ import annotations

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
from critinit_adapters.shared.jax_arrays import path_name

from tests.adapters.frameworks import Built, Row

CELLS = {"gru": eqx.nn.GRUCell, "lstm": eqx.nn.LSTMCell}
ROWS = [
    Row("equinox", cell, layers, directions, bias)
    for cell in CELLS
    for layers in (1, 2)
    for directions in (1, 2)
    for bias in (True, False)
]


@cache  # trees never change, so one serves all
@jax.disable_jit()
def build(row, hidden, size):
    def cell(inputs):
        return CELLS[row.cell](inputs, hidden, use_bias=row.bias, key=jax.random.key(0))

    widths = [size, *[hidden * row.directions] * (row.layers - 1)]
    model = [tuple(cell(width) for _ in range(row.directions)) for width in widths]
    pairs = [(f"{n}/0", f"{n}/1") for n in range(row.layers)]
    return Built(model, row, {"bidirectional": pairs} if row.directions == 2 else {})


@jax.disable_jit()
def run(built, model, x):
    x = jnp.asarray(x, jnp.float32)
    for cells in model:
        ways = [_scan(cells[0], x)]
        if len(cells) == 2:
            ways.append(_scan(cells[1], x[::-1])[::-1])
        x = jnp.concatenate(ways, axis=-1)
    return x


def _scan(cell, x):
    zero = jnp.zeros((x.shape[1], cell.hidden_size))
    lstm = isinstance(cell, eqx.nn.LSTMCell)

    def step(state, now):
        state = jax.vmap(cell)(now, state)
        return state, state[0] if lstm else state

    return jax.lax.scan(step, (zero, zero) if lstm else zero, x)[1]


def tensors(built, model):
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(model)}
