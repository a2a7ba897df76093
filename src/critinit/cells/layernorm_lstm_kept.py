"""The LSTM with layer normalization as common implementations have it, which keep the normalized memory.

c' = γ_c·norm(f∘c + i∘tanh(u_cell)), h' = o∘tanh(c'); all else as ``critinit.cells.layernorm_lstm`` says

The normalization multiplies what is kept at every step, so f is not what a unit keeps: that is f·γ_c/D, with D the
deviation of f∘c + i∘tanh(u_cell) over units.  It is f where γ_c is the deviation that c has without normalization.  A
larger γ_c brings the slowest units near 1 and gives them most of the memory.
"""

from __future__ import annotations

from critinit.cells.layernorm_lstm import LayerNormLSTM

__all__ = ["LayerNormLSTMKept"]


class LayerNormLSTMKept(LayerNormLSTM):
    """The LSTM, its products normalized and its memory kept normalized."""

    name = "layernorm_lstm_kept"
    keeps_normalized = True
