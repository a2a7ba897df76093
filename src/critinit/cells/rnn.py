"""The vanilla RNN: h' = tanh(u_hidden)."""

from __future__ import annotations

from typing import Any

import numpy as np

from critinit.cells._base import Cell, Drives

__all__ = ["RNN"]


class RNN(Cell):
    """h' = tanh(W h + U x + b)."""

    name = "rnn"
    gates = ("hidden",)
    candidate_gate = "hidden"

    def keep(self, u: Drives) -> Any:
        return 0.0

    def write(self, u: Drives) -> Any:
        return 1.0

    def candidate(self, u: Drives) -> Any:
        return np.tanh(u["hidden"])
