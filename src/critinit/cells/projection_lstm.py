"""The LSTM with a recurrent projection (Sak et al. 2014, arXiv:1402.1128).

i, f, o = σ(u_input), σ(u_forget), σ(u_output);  c' = f∘c + i∘tanh(u_cell);  r' = P(o∘tanh(c'))

All gates read r, of fewer coordinates than there are units, and r is what the layer gives.
"""

from __future__ import annotations

from critinit.cells.lstm import LSTM

__all__ = ["ProjectionLSTM"]


class ProjectionLSTM(LSTM):
    """The LSTM, its kernels reading r = P h."""

    name = "projection_lstm"
    projects = True
