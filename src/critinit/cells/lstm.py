"""The LSTM (Hochreiter & Schmidhuber 1997; forget gate Gers et al. 2000).

i, f, o = σ(u_input), σ(u_forget), σ(u_output);  c' = f∘c + i∘tanh(u_cell);  h' = o∘tanh(c')
"""

from __future__ import annotations

from typing import Any

import numpy as np

from critinit.cells._base import Cell, PreActivations
from critinit.dual import sigmoid

__all__ = ["LSTM", "CellMemory"]


class CellMemory(Cell):
    """The memory that the LSTM and the peephole LSTM share: c' = f∘c + i∘tanh(u_cell)."""

    keep_gate = "forget"
    write_gate = "input"
    candidate_gate = "cell"

    def keep(self, u: PreActivations) -> Any:
        return sigmoid(u["forget"])

    def write(self, u: PreActivations) -> Any:
        return sigmoid(u["input"])

    def candidate(self, u: PreActivations) -> Any:
        return np.tanh(u["cell"])


class LSTM(CellMemory):
    """All gates read h = o∘tanh(c)."""

    name = "lstm"
    gates = ("input", "forget", "cell", "output")
    read_gate = "output"

    def read(self, s: Any, u: PreActivations) -> Any:
        return sigmoid(u["output"]) * np.tanh(s)
