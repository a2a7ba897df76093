"""Plain recurrences, written from the literature and from nothing of critinit's.

Inputs x (time, batch, I); states (batch, H); W (H, F), U (H, I), b (H,).  All in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def sigmoid(u: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-u))


def rnn_step(g: Mapping[str, Any], x: Array, h: Array) -> Array:
    k = g["hidden"]
    return np.tanh(x @ k.input.T + h @ k.recurrent.T + k.bias)


def relu_rnn_step(g: Mapping[str, Any], x: Array, h: Array) -> Array:
    k = g["hidden"]
    return np.maximum(x @ k.input.T + h @ k.recurrent.T + k.bias, 0.0)


def gru_step(g: Mapping[str, Any], x: Array, h: Array) -> Array:
    z, r, n = g["update"], g["reset"], g["candidate"]
    keep = sigmoid(x @ z.input.T + h @ z.recurrent.T + z.bias)
    gate = sigmoid(x @ r.input.T + h @ r.recurrent.T + r.bias)
    new = np.tanh(x @ n.input.T + n.bias + gate * (h @ n.recurrent.T))
    return keep * h + (1.0 - keep) * new


def ugrnn_step(g: Mapping[str, Any], x: Array, h: Array) -> Array:
    z, n = g["update"], g["candidate"]
    keep = sigmoid(x @ z.input.T + h @ z.recurrent.T + z.bias)
    return keep * h + (1.0 - keep) * np.tanh(x @ n.input.T + h @ n.recurrent.T + n.bias)


def gru_reset_before_step(g: Mapping[str, Any], x: Array, h: Array) -> Array:
    z, r, n = g["update"], g["reset"], g["candidate"]
    keep = sigmoid(x @ z.input.T + h @ z.recurrent.T + z.bias)
    gate = sigmoid(x @ r.input.T + h @ r.recurrent.T + r.bias)
    new = np.tanh(x @ n.input.T + n.bias + (gate * h) @ n.recurrent.T)
    return keep * h + (1.0 - keep) * new


def lstm_step(
    g: Mapping[str, Any], x: Array, h: Array, c: Array, projection: Array | None = None
) -> tuple[Array, Array]:
    i, f, a, o = (x @ k.input.T + h @ k.recurrent.T + k.bias for k in (g["input"], g["forget"], g["cell"], g["output"]))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(a)
    h = sigmoid(o) * np.tanh(c)
    return (h if projection is None else h @ projection.T), c


def layer_forward(cell: str, direction: Any, x: Array) -> Array:
    """Outputs (time, batch, F) of one layer in one direction, from zero states."""
    g = direction.gates
    first = next(iter(g.values())).recurrent
    h, c = np.zeros((x.shape[1], first.shape[1])), np.zeros((x.shape[1], first.shape[0]))
    outputs = []
    for xt in x:
        if cell == "rnn":
            h = rnn_step(g, xt, h)
        elif cell == "relu_rnn":
            h = relu_rnn_step(g, xt, h)
        elif cell == "gru":
            h = gru_step(g, xt, h)
        elif cell == "ugrnn":
            h = ugrnn_step(g, xt, h)
        elif cell == "gru_reset_before":
            h = gru_reset_before_step(g, xt, h)
        else:
            h, c = lstm_step(g, xt, h, c, direction.projection)
        outputs.append(h)
    return np.stack(outputs)


def forward(cell: str, weights: Any, x: Array) -> Array:
    """Outputs (time, batch, F·directions) of the last layer; the second direction runs from the end."""
    for layer in weights.layers:
        ways = [layer_forward(cell, layer[0], x)]
        if len(layer) == 2:
            ways.append(layer_forward(cell, layer[1], x[::-1])[::-1])
        x = np.concatenate(ways, axis=-1)
    return x
