"""Haiku's rows; a model is its tree of parameters."""

from __future__ import annotations

from functools import cache

import haiku as hk
import jax
import jax.numpy as jnp
from critinit_adapters.shared.jax_arrays import path_name

from tests.adapters.frameworks import Built, Row

CELLS = {"gru_reset_before": hk.GRU, "lstm": hk.LSTM, "relu_rnn": hk.VanillaRNN}
KINDS = {"gru_reset_before": "gru", "lstm": "lstm", "relu_rnn": "vanilla_rnn"}
ROWS = [Row("haiku", cell, layers, directions) for cell in CELLS for layers in (1, 2) for directions in (1, 2)]


@cache  # trees never change, so one serves all
@jax.disable_jit()
def build(row, hidden, size):
    names = [[f"l{n}_{way}" for way in ("forward", "backward")[: row.directions]] for n in range(row.layers)]

    def forward(x):
        for ways in names:
            outputs = []
            for direction, name in enumerate(ways):
                core = CELLS[row.cell](hidden, name=name)
                turn = slice(None, None, -1 if direction else 1)
                outputs.append(hk.dynamic_unroll(core, x[turn], core.initial_state(x.shape[1]))[0][turn])
            x = jnp.concatenate(outputs, axis=-1)
        return x

    network = hk.without_apply_rng(hk.transform(forward))
    params = network.init(jax.random.key(0), jnp.zeros((2, 1, size)))
    options = {"haiku": {name: KINDS[row.cell] for ways in names for name in ways}}
    if row.directions == 2:
        options["bidirectional"] = [tuple(ways) for ways in names]
    return Built(params, row, options, network)


@jax.disable_jit()
def run(built, model, x):
    return built.definition.apply(model, jnp.asarray(x, jnp.float32))


def tensors(built, model):
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(model)}
