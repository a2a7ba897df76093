"""The peephole LSTM of Gilboa et al. (arXiv:1901.08987): all gates read c, and c alone is the state.

i, f = σ(u_input), σ(u_forget);  c' = f∘c + i∘tanh(u_cell)
"""

from __future__ import annotations

from critinit.cells.lstm import CellMemory

__all__ = ["PeepholeLSTM"]


class PeepholeLSTM(CellMemory):
    """c' = f∘c + i∘tanh(u_cell), every kernel reading c."""

    name = "peephole_lstm"
    gates = ("input", "forget", "cell")
    message_is_memory = True
