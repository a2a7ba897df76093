"""The LSTM with layer normalization (Ba, Kiros & Hinton 2016, arXiv:1607.06450).

u_k = γ_x·norm(U_k x) + γ_h·norm(W_k h) + b_k for every gate;  i, f, o = σ(u_input), σ(u_forget), σ(u_output);
c' = f∘c + i∘tanh(u_cell), h' = o∘tanh(γ_c·norm(c'))

norm subtracts the mean over the layer's units and divides by the deviation.  The two products of a gate are normalized
apart, each gate by itself.  The memory c itself is kept as it is: only what the output gate reads is normalized, and in
a spec whose layer has no ``memory_gain`` not even that.
"""

from __future__ import annotations

from critinit.cells.lstm import LSTM

__all__ = ["LayerNormLSTM"]


class LayerNormLSTM(LSTM):
    """The LSTM, its products normalized."""

    name = "layernorm_lstm"
    normalized = True
