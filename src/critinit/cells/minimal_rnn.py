"""The minimal RNN (Chen 2017, arXiv:1711.06788): f = σ(u_update), h' = f∘h + (1−f)∘z, z the embedded input."""

from __future__ import annotations

from typing import Any

from critinit.cells._base import Cell, PreActivations
from critinit.dual import sigmoid

__all__ = ["MinimalRNN"]


class MinimalRNN(Cell):
    """h' = f∘h + (1−f)∘z with f = σ(W h + U z + b); z has one coordinate per unit and second moment R."""

    name = "minimal_rnn"
    gates = ("update",)
    keep_gate = "update"
    write_gate = "update"
    embeds_input = True

    def keep(self, u: PreActivations) -> Any:
        return sigmoid(u["update"])

    def write(self, u: PreActivations) -> Any:
        return sigmoid(-u["update"])

    def candidate(self, u: PreActivations) -> Any:
        return u["input"]
