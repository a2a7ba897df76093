"""The LSTM whose input gate is 1 − its forget gate (CIFG: Greff et al. 2015, arXiv:1503.04069).

f, o = σ(u_forget), σ(u_output);  c' = f∘c + (1−f)∘tanh(u_cell);  h' = o∘tanh(c')
"""

from __future__ import annotations

from typing import Any

import numpy as np

from critinit.cells._base import Cell, PreActivations
from critinit.dual import sigmoid

__all__ = ["CoupledLSTM"]


class CoupledLSTM(Cell):
    """One gate keeps and writes; the memory is bounded by 1, and so is its response to a constant input."""

    name = "coupled_lstm"
    gates = ("forget", "cell", "output")
    keep_gate = "forget"
    write_gate = "forget"
    candidate_gate = "cell"
    read_gate = "output"

    def keep(self, u: PreActivations) -> Any:
        return sigmoid(u["forget"])

    def write(self, u: PreActivations) -> Any:
        return sigmoid(-u["forget"])

    def candidate(self, u: PreActivations) -> Any:
        return np.tanh(u["cell"])

    def read(self, s: Any, u: PreActivations) -> Any:
        return sigmoid(u["output"]) * np.tanh(s)
