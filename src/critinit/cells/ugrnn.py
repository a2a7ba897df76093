"""The update gate RNN (Collins, Sohl-Dickstein & Sussillo 2017, arXiv:1611.09913): a GRU without a reset gate.

f = σ(u_update):   h' = f∘h + (1−f)∘tanh(W h + U x + b)

``update`` keeps the old state.
"""

from __future__ import annotations

from critinit.cells.gru import GatedUnit

__all__ = ["UGRNN"]


class UGRNN(GatedUnit):
    """One gate keeps and writes, and nothing scales the candidate's message."""

    name = "ugrnn"
    gates = ("update", "candidate")
