"""PyTorch's rows."""

from __future__ import annotations

import torch
from torch import nn

from tests.adapters.frameworks import Built, Row


def _relu(kind):
    return lambda *sizes, **more: kind(*sizes, nonlinearity="relu", **more)


STACKS = {"rnn": nn.RNN, "relu_rnn": _relu(nn.RNN), "gru": nn.GRU, "lstm": nn.LSTM}
SINGLE = {"rnn": nn.RNNCell, "relu_rnn": _relu(nn.RNNCell), "gru": nn.GRUCell, "lstm": nn.LSTMCell}
ROWS = [
    Row("torch", cell, layers, directions, bias)
    for cell in STACKS
    for layers in (1, 2)
    for directions in (1, 2)
    for bias in (True, False)
] + [Row("torch", cell, kind="cell") for cell in SINGLE]


def build(row, hidden, size):
    if row.kind == "cell":
        return Built(SINGLE[row.cell](size, hidden), row)
    both = row.directions == 2
    return Built(STACKS[row.cell](size, hidden, row.layers, bias=row.bias, bidirectional=both), row)


@torch.no_grad()
def run(built, model, x):
    x = torch.tensor(x, dtype=next(model.parameters()).dtype)
    if isinstance(model, nn.RNNBase):
        return model(x)[0].double().numpy()
    state, seen = None, []
    for step in x:
        state = model(step, state)
        seen.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(seen).double().numpy()


def tensors(built, model):
    return {name: p.detach().numpy() for name, p in model.named_parameters()}
