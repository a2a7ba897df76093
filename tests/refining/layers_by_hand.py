"""Layers of the frameworks as functions of one state, and what follows from their Jacobians, all by NumPy.

Nothing of critinit's is used: a step is the framework's own, its Jacobian the framework's own or central differences.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

HIDDEN, INPUT = 6, 3


def torch_layer(kind: str) -> torch.nn.Module:
    """A layer with biases and weights that are large enough to matter, in double precision."""
    torch.manual_seed(3)
    layers: dict[str, Any] = {
        "rnn": lambda: torch.nn.RNN(INPUT, HIDDEN),
        "gru": lambda: torch.nn.GRU(INPUT, HIDDEN),
        "lstm": lambda: torch.nn.LSTM(INPUT, HIDDEN),
        "projected": lambda: torch.nn.LSTM(INPUT, HIDDEN, proj_size=4),
    }
    layer = layers[kind]().double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(1.7)
    return layer


def torch_step(layer: Any) -> Any:
    """``step(x, state) -> state`` of NumPy's arrays, and the number of visible coordinates."""
    visible = getattr(layer, "proj_size", 0) or HIDDEN
    pair = isinstance(layer, torch.nn.LSTM)

    def step(x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        parts = (state[None, None, :visible], state[None, None, visible:]) if pair else state[None, None]
        _, after = layer(x[None, None], parts)
        return torch.cat([part.reshape(-1) for part in after]) if pair else after.reshape(-1)

    return step, visible + (HIDDEN if pair else 0)


def course(layer: Any, x: np.ndarray) -> np.ndarray:
    """The state after all steps from the zero state."""
    step, size = torch_step(layer)
    state = torch.zeros(size, dtype=torch.float64)
    for one in torch.from_numpy(x):
        state = step(one, state).detach()
    return np.asarray(state.numpy())


def jacobians(layer: Any, x: np.ndarray, start: np.ndarray | None = None) -> list[np.ndarray]:
    """The Jacobian of every step along the course of a layer from a state, zero unless given."""
    step, size = torch_step(layer)
    state, found = torch.from_numpy(np.zeros(size) if start is None else start), []
    for one in torch.from_numpy(x):
        found.append(torch.autograd.functional.jacobian(lambda s, one=one: step(one, s), state).numpy())
        state = step(one, state).detach()
    return found


def exponents(matrices: list[np.ndarray], columns: np.ndarray, transient: int) -> np.ndarray:
    """The QR method."""
    logs, q = [], columns
    for matrix in matrices:
        q, r = np.linalg.qr(matrix @ q)
        logs.append(np.log(np.abs(np.diag(r))))
    return np.mean(logs[transient:], axis=0)
