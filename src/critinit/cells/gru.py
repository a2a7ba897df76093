"""The GRU (Cho et al. 2014, arXiv:1406.1078) in its two reset variants; ``update`` keeps the old state.

f = σ(u_update), r = σ(u_reset)
reset before:  h' = f∘h + (1−f)∘tanh(W(r∘h) + U x + b)
reset after:   h' = f∘h + (1−f)∘tanh(U x + b + r∘(W h))
"""

from __future__ import annotations

from typing import Any

import numpy as np

from critinit.cells._base import Cell, Drives, Scale
from critinit.dual import sigmoid

__all__ = ["GRUAfter", "GRUBefore"]


class _GRU(Cell):
    name = "gru"
    gates = ("update", "reset", "candidate")
    keep_gate = "update"
    write_gate = "update"
    candidate_gate = "candidate"

    def keep(self, u: Drives) -> Any:
        return sigmoid(u["update"])

    def write(self, u: Drives) -> Any:
        return sigmoid(-u["update"])

    def candidate(self, u: Drives) -> Any:
        return np.tanh(u["candidate"])


class GRUAfter(_GRU):
    """The reset gate scales the recurrent product: cuDNN's GRU, PyTorch's, Keras' default, Flax's, Equinox's."""

    reset = "after"
    after = {"candidate": Scale("reset", sigmoid)}


class GRUBefore(_GRU):
    """The reset gate scales the state ahead of the kernel: the original GRU, Keras' ``reset_after=False``, Haiku's."""

    reset = "before"
    before = {"candidate": Scale("reset", sigmoid)}
