"""The vanilla RNN: h' = tanh(u_hidden)."""

from __future__ import annotations

from typing import Any

import numpy as np

from critinit.cells._base import Cell, PreActivations

__all__ = ["RNN"]


class RNN(Cell):
    """h' = tanh(W h + U x + b)."""

    name = "rnn"
    gates = ("hidden",)
    candidate_gate = "hidden"

    def keep(self, u: PreActivations) -> Any:
        return 0.0

    def write(self, u: PreActivations) -> Any:
        return 1.0

    def candidate(self, u: PreActivations) -> Any:
        return np.tanh(u["hidden"])
